"""The demo itself: a fleet, a configuration of ten lines, the real daemon as a separate process, and a final check.

Everything is in a temporary directory, which is removed at the end unless it is to be kept. Ends by itself.
"""

import json
import os
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from harvestd.demo.expected import HARDWARE
from harvestd.demo.fleet import Fleet
from harvestd.demo.judging import differences
from harvestd.demo.story import play
from harvestd.demo.telling import Telling, left_out, tree
from harvestd.errors import ExitCode
from harvestd.settings.schema import PREFIX

_DEADLINE = 50.0
"""Seconds for the whole demo, until every file was fetched."""
_LOOK = 0.5
_STOP_WITHIN = 5.0

Say = Callable[[str], None]


async def show(say: Say, *, keep: Path | None = None, pace: float = 1.0) -> ExitCode:
    """Run the demo and print each event as a line; return PARTIAL if the local tree is not as expected.

    `keep`: a directory to leave everything in, for inspection afterwards.
    """
    async with AsyncExitStack() as stack:
        directory = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harvestd-demo-")))
        fleet = await stack.enter_async_context(Fleet(directory / "fleet"))
        config = directory / "harvestd.toml"
        data_root = directory / "downloaded_runs"
        await anyio.to_thread.run_sync(config.write_text, configuration(fleet, data_root))
        say("Three made-up boxes are up. The configuration:\n")
        for line in configuration(fleet, data_root).splitlines():
            say(f"    {line}")
        say("\n$ harvestd run\n")
        wrong = await _tell(fleet, config, data_root, say, pace)
        say("\nThe tree at home:\n")
        for line in await anyio.to_thread.run_sync(lambda: list(tree(data_root))):
            say(f"    {line}")
        say("\nLeft out, and why:\n")
        for line in await anyio.to_thread.run_sync(lambda: list(left_out(data_root))):
            say(f"    {line}")
        return _verdict(wrong, say, keep)


async def _tell(fleet: Fleet, config: Path, data_root: Path, say: Say, pace: float) -> list[str]:
    """Run the story beside the daemon; return the differences of the local tree at its end, or when time is up."""
    roots = {box.name: box.root for box in fleet.boxes}
    telling = Telling(roots.values())
    wrong = ["the story was not told to its end in time"]
    async with _daemon(config) as process, anyio.create_task_group() as tasks:
        tasks.start_soon(_listen, process, telling, say)
        with anyio.move_on_after(_DEADLINE):
            await play(fleet, pace)
            wrong = await anyio.to_thread.run_sync(differences, data_root, roots)
            while wrong and process.returncode is None:
                await anyio.sleep(_LOOK)
                wrong = await anyio.to_thread.run_sync(differences, data_root, roots)
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        with anyio.move_on_after(_STOP_WITHIN):
            code = await process.wait()
            say(f"\nSIGTERM: the daemon ended with {code}; {telling.appends()} appends were made in place")
            wrong += [f"the daemon ended with {code}"] if code else []
        if process.returncode is None:
            wrong.append(f"the daemon did not end within {_STOP_WITHIN:.0f} s")
    # Only now do the manifests match the tree.
    return wrong or await anyio.to_thread.run_sync(differences, data_root, roots)


@asynccontextmanager
async def _daemon(config: Path) -> AsyncIterator[Process]:
    command = [sys.executable, "-m", "harvestd", "run", "--config", str(config)]
    # Variables have precedence over the file: one of the caller's could name a real data root, or real hosts.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    async with await anyio.open_process(command, stderr=None, env=environment) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def _listen(process: Process, telling: Telling, say: Say) -> None:
    if process.stdout is None:
        return
    rest = ""
    async for text in TextReceiveStream(process.stdout):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            told = telling.line(json.loads(line))
            if told is not None:
                say(told)


def configuration(fleet: Fleet, data_root: Path) -> str:
    """Return the configuration that watches the fleet: a beginner's configuration with shorter intervals."""
    hosts = "".join(_host(box.name, box.port, box.root) for box in fleet.boxes)
    return f"""\
version = 1
data_root = "{data_root}"
poll = {{ interval = "1s", settle = "2s" }}
ssh = {{ user = "ubuntu", identity_files = ["{fleet.client_key}"], agent = false }}
limits = {{ free_space = "16MiB" }}
jobs = {{ watch = false }}
{hosts}"""


def _host(name: str, port: int, root: Path) -> str:
    hardware = f'hardware = "{HARDWARE[name]}"\n' if name in HARDWARE else ""
    return f'\n[[hosts]]\nname = "{name}"\naddress = "127.0.0.1"\nport = {port}\nroots = ["{root}"]\n{hardware}'


def _verdict(wrong: list[str], say: Say, keep: Path | None) -> ExitCode:
    say("")
    for sentence in wrong:
        say(f"WRONG: {sentence}")
    if keep is not None:
        say(f"Everything is left in {keep} for you to look at.")
    say("The tree is not what it must be." if wrong else "Every file is where the convention wants it, byte for byte.")
    return ExitCode.PARTIAL if wrong else ExitCode.OK
