"""A daemon with its page, and browsers that look at it: logged in, with every complaint of the browser collected."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, BrowserContext, ConsoleMessage, Page

from harvestd.demo.content import RunSpec
from harvestd.demo.serve import free_port
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode
from support.command import harvestd_command
from support.house import Workstation

AXE = Path(__file__).parents[1] / "browser" / "vendor" / "axe.js"
HOSTILE = "<img src=x onerror=alert(1)>\u202e\u05d0<b>"
"""A name with markup, a mark that turns the reading direction, and a letter that is read from the right."""
DEEP = ("<script>alert(2)</script>".replace("/", "\u2215") * 9, "d" * 240, "e" * 240)
"""Directories whose names make a path of nearly 1,000 bytes."""
TRAINING = RunSpec(total_steps=48)
QUIET = RunSpec(timestamp="2025-08-22_18-40-00", total_steps=20, gns_probe=False)
_LONG = 30.0


class Served:
    """A workstation with the page: gpu-a trains, gpu-b has a finished run and hostile names, gpu-c is empty."""

    def __init__(self, workstation: Workstation) -> None:
        self.workstation = workstation
        self.address = f"http://127.0.0.1:{free_port()}"
        for name, cents in (("gpu-a", 249), ("gpu-b", 129), ("gpu-c", 129)):
            workstation.add_box(name)
            workstation.keys[name] = {"cents_per_hour": cents}
        self.training = RunWriter(workstation.boxes["gpu-a"].root, TRAINING)
        self.training.start()
        self.step = 12
        """The newest step of gpu-a's run."""
        self.training.log_until(self.step)
        quiet = RunWriter(workstation.boxes["gpu-b"].root, QUIET)
        quiet.start()
        quiet.log_until(QUIET.total_steps)
        quiet.finish()
        (quiet.directory / HOSTILE).write_text("hostile")
        deep = quiet.directory.joinpath(*DEEP)
        deep.mkdir(parents=True)
        (deep / f"{HOSTILE}.txt").write_text("deep")

    def train(self) -> None:
        """Log the next step of gpu-a's run."""
        self.step += 1
        self.training.log_step(self.step)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run the daemon for the body, from the moment when it has read all hosts."""
        listen = self.address.removeprefix("http://")
        self.workstation.settings(api={"listen": listen}, verdict={"idle_for": "1h"})
        with self.workstation.program():
            wait(lambda: harvestd_command("-c", self.workstation.config, "open", "--print").code == ExitCode.OK)
            wait(self._is_read)
            yield

    def _is_read(self) -> bool:
        names = {name for (name,) in self.workstation.catalogue("SELECT name FROM runs")}
        return {TRAINING.name, QUIET.name} <= names and self.workstation.stands(QUIET.name, "training_state")()

    def login(self) -> str:
        """Return an address that logs one browser in."""
        return harvestd_command("-c", self.workstation.config, "open", "--print").out.strip()


class Watched:
    """One browser's session with the page, and what the browser complains of."""

    def __init__(self, context: BrowserContext, served: Served) -> None:
        self.context = context
        self.served = served
        self.complaints: list[str] = []

    def page(self) -> Page:
        """Open a tab."""
        page = self.context.new_page()
        page.on("console", self._note)
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"a dialog: {dialog.message}"))
        return page

    def at(self, path: str) -> Page:
        """Open a tab at a view."""
        page = self.page()
        page.goto(self.served.address + path)
        return page

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.complaints.append(message.text)


@contextmanager
def watching(browser: Browser, served: Served, **options: Any) -> Iterator[Watched]:  # noqa: ANN401  (playwright's own)
    """Log a fresh browser in for the body; fail for anything that the browser complains of."""
    context = browser.new_context(**options)
    try:
        watched = Watched(context, served)
        if options.get("java_script_enabled", True):
            page = watched.page()
            page.goto(served.login())
            page.wait_for_url(served.address + "/")
            page.close()
        else:
            _log_in_by_hand(watched)
        yield watched
        assert watched.complaints == []
    finally:
        context.close()


def _log_in_by_hand(watched: Watched) -> None:
    """Type the code, as without script."""
    page = watched.at("/login")
    page.fill("#code", watched.served.login().rpartition("#")[2])
    page.click("#login button")
    page.wait_for_url(watched.served.address + "/")
    page.close()


def wait(condition: Callable[[], object], seconds: float = _LONG) -> None:
    """Return when a condition holds; fail after `seconds`."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"did not come true within {seconds:g} s"
        time.sleep(0.05)


def accessibility(page: Page) -> list[str]:
    """Return what axe-core finds that is serious or critical."""
    page.evaluate(AXE.read_text())
    found = page.evaluate("axe.run(document, {resultTypes: ['violations']})")
    serious = [each for each in found["violations"] if each["impact"] in {"serious", "critical"}]
    return [f"{each['id']}: {json.dumps([node['html'][:200] for node in each['nodes'][:3]])}" for each in serious]


def overflows(page: Page) -> bool:
    """Return whether the document is wider than its window."""
    return bool(page.evaluate("document.documentElement.scrollWidth > innerWidth"))
