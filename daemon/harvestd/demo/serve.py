"""The demo with the page: the embedded fleet, its story told slowly, and the daemon until Ctrl-C.

Hosts have prices, and count as idle after half a minute, so that the page shows what idling costs.
"""

import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread

from harvestd.demo.fleet import LOOPBACK, Fleet
from harvestd.demo.show import EventLines, Write, configuration, daemon_process, write_events
from harvestd.demo.story import play
from harvestd.errors import ExitCode, Fatal

_PACE: Final = 8.0
"""How many times as long the story takes as without the page."""
_CENTS: Final[Mapping[str, int]] = {"gpu-a": 249, "gpu-b": 1_032, "gpu-c": 498}
_STARTS_WITHIN: Final = 30.0
_AGAIN: Final = 0.5


@asynccontextmanager
async def served(directory: Path, write: Write) -> AsyncIterator[tuple[Fleet, Path]]:
    """Run the fleet and the daemon with its page for the body; yield the fleet and the configuration's file."""
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(Fleet(directory / "fleet"))
        config = directory / "harvestd.toml"
        text = with_page(configuration(fleet, directory / "downloaded_runs"), free_port())
        await anyio.to_thread.run_sync(config.write_text, text)
        process = await stack.enter_async_context(daemon_process(config))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(write_events, process, EventLines(box.root for box in fleet.boxes), write)
        yield fleet, config
        tasks.cancel_scope.cancel()


async def serve_page(write: Write, *, keep: Path | None = None) -> ExitCode:
    """Show the demo on the page until interrupted; `keep`: a directory to leave everything in."""
    if find_spec("jinja2") is None:
        raise Fatal("the page needs jinja2", hint="pip install 'harvestd[page]'", exit_code=ExitCode.CONFIGURATION)
    with tempfile.TemporaryDirectory(prefix="harvestd-demo-") as temporary:
        async with served(keep or Path(temporary), lambda _: None) as (fleet, config):
            write(f"Three made-up boxes are up, and the daemon watches them:\n\n    {await opened(config)}\n")
            write("That address is good for one browser, within a minute. Ctrl-C ends the demo.")
            await play(fleet, _PACE)
            await anyio.sleep_forever()
    return ExitCode.OK


async def opened(config: Path, *words: str) -> str:
    """Run `harvestd open` once the daemon answers; return the address."""
    command = [sys.executable, "-m", "harvestd", "open", *words, "--config", str(config)]
    with anyio.fail_after(_STARTS_WITHIN):
        while True:
            done = await anyio.run_process(command, check=False)
            if done.returncode == 0:
                return done.stdout.decode().strip()
            await anyio.sleep(_AGAIN)


def with_page(text: str, port: int) -> str:
    """Return the demo's configuration with the page, prices, and a short time until a host is idle."""
    lines = [f'api = {{ listen = "{LOOPBACK}:{port}" }}', 'verdict = { idle_for = "30s" }']
    for line in text.splitlines():
        lines.append(line)
        name = line.removeprefix('name = "').removesuffix('"')
        if name in _CENTS:
            lines.append(f"cents_per_hour = {_CENTS[name]}")
    return "\n".join(lines) + "\n"


def free_port() -> int:
    """Return a port of loopback that nothing listens at now."""
    with socket.socket() as trial:
        trial.bind((LOOPBACK, 0))
        port: int = trial.getsockname()[1]
        return port
