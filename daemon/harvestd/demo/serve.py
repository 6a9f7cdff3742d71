"""The demo with the page: the embedded fleet, its story played slowly, and the daemon until Ctrl-C.

A fourth host has a finished run alone. Hosts have prices, and count as idle after half a minute, so that the page shows
a host that may be switched off, and what its idling costs.
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

from harvestd.demo.content import RunSpec
from harvestd.demo.fleet import LOOPBACK, Fleet
from harvestd.demo.show import EventLines, Write, configuration, daemon_process, write_events
from harvestd.demo.story import play
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode, Fatal

_PACE: Final = 8.0
"""How many times as long the story takes as without the page."""
_CENTS: Final[Mapping[str, int]] = {"gpu-a": 249, "gpu-b": 1_032, "gpu-c": 498, "gpu-d": 249}
_DRAINED: Final = RunSpec(timestamp="2025-08-19_22-10-33", total_steps=64, gns_probe=False)
"""gpu-d's run."""
_STARTS_WITHIN: Final = 30.0
_AGAIN: Final = 0.5


@asynccontextmanager
async def served(directory: Path, write: Write) -> AsyncIterator[tuple[Fleet, Path]]:
    """Run the fleet and the daemon with its page for the body; yield the fleet and the configuration's file."""
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(Fleet(directory / "fleet", len(_CENTS)))
        config = directory / "harvestd.toml"
        text = with_page(configuration(fleet, directory / "downloaded_runs"), free_port())
        await anyio.to_thread.run_sync(config.write_text, text)
        process = await stack.enter_async_context(daemon_process(config))
        tasks = await stack.enter_async_context(anyio.create_task_group())
        tasks.start_soon(write_events, process, EventLines(box.root for box in fleet.boxes), write)
        await anyio.to_thread.run_sync(_write_drained, fleet.box("gpu-d").root)
        yield fleet, config
        tasks.cancel_scope.cancel()


async def serve_page(write: Write, *, keep: Path | None = None) -> ExitCode:
    """Show the demo on the page until interrupted; `keep`: a directory to leave everything in."""
    if find_spec("jinja2") is None:
        raise Fatal("the page needs jinja2", hint="pip install 'harvestd[page]'", exit_code=ExitCode.CONFIGURATION)
    with tempfile.TemporaryDirectory(prefix="harvestd-demo-") as temporary:
        async with served(keep or Path(temporary), lambda _: None) as (fleet, config):
            write(f"Four made-up boxes are up, and the daemon watches them:\n\n    {await opened(config)}\n")
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
    # The hosts are directories of this machine, whose other files are not theirs.
    verdict = 'verdict = { idle_for = "30s", accept_loss = ["outside_files", "uncommitted_work"] }'
    lines = [f'api = {{ listen = "{LOOPBACK}:{port}" }}', verdict]
    for line in text.splitlines():
        lines.append(line)
        name = line.removeprefix('name = "').removesuffix('"')
        if name in _CENTS:
            lines.append(f"cents_per_hour = {_CENTS[name]}")
    return "\n".join(lines) + "\n"


def _write_drained(root: Path) -> None:
    writer = RunWriter(root, _DRAINED)
    writer.start()
    writer.log_until(_DRAINED.total_steps)
    writer.finish()


def free_port() -> int:
    """Return a port of loopback that nothing listens at now."""
    with socket.socket() as trial:
        trial.bind((LOOPBACK, 0))
        port: int = trial.getsockname()[1]
        return port
