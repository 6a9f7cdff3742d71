"""`make screenshots`: the pictures of the page that README shows, from the demo; look at them before they are kept."""

import sys
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final, Literal

import anyio
from playwright.async_api import async_playwright, expect

from browser.conftest import chromium
from harvestd.demo.serve import opened, served
from harvestd.demo.story import play

SCHEMES: Final[tuple[Literal["light", "dark"], ...]] = ("light", "dark")
_PACE: Final = 20.0
_PATIENCE: Final = 180_000.0
"""Milliseconds until a host of the demo has been idle for two minutes."""


async def take(directory: Path) -> None:
    """Run the demo, and take each picture once gpu-d has been idle for a while and gpu-a still trains."""
    with TemporaryDirectory(prefix="harvestd-screenshots-") as temporary:
        async with served(Path(temporary), lambda _: None) as (fleet, config), anyio.create_task_group() as tasks:
            tasks.start_soon(partial(play, fleet, _PACE))
            async with async_playwright() as driver:
                browser = await driver.chromium.launch(executable_path=chromium(), args=["--no-sandbox"])
                for scheme in SCHEMES:
                    size = {"width": 1_440, "height": 760}
                    context = await browser.new_context(color_scheme=scheme, viewport=size, device_scale_factor=1)  # type: ignore[arg-type]  # a plain mapping
                    page = await context.new_page()
                    address = await opened(config, "--print")
                    await page.goto(address)
                    await expect(page.locator("td.cost").last).to_contain_text("idle 2", timeout=_PATIENCE)
                    await page.screenshot(path=directory / f"fleet-{scheme}.png")
                    await page.get_by_role("row", name="gpu-a").locator("a.runs").click()
                    await expect(page.get_by_role("heading", level=1)).to_be_visible()
                    await expect(page.locator("canvas").first).to_be_visible()
                    await page.screenshot(path=directory / f"run-{scheme}.png")
                    await context.close()
                await browser.close()
            tasks.cancel_scope.cancel()


if __name__ == "__main__":
    target = Path(sys.argv[1])
    target.mkdir(parents=True, exist_ok=True)
    anyio.run(take, target)
