"""The demo itself: a fleet, a configuration of ten lines, the real daemon as a separate process, and a final check.

Everything is in a temporary directory, which is removed at the end unless it is to be kept. Ends by itself.
"""

import json
import os
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
from anyio.abc import Process
from anyio.streams.text import TextReceiveStream

from harvestd.catalogue.engine import reading
from harvestd.catalogue.queries import left_out_elsewhere
from harvestd.demo.expected import HARDWARE, differences, files_in
from harvestd.demo.fleet import Fleet
from harvestd.demo.story import play
from harvestd.errors import ExitCode
from harvestd.settings.schema import PREFIX
from harvestd.telemetry.events import Event
from harvestd.telemetry.sanitize import escaped

_KIB = 1024
_SHOWN_EVENTS = {
    Event.HOST_CONNECTED: "connected, reading by {method}",
    Event.RUN_DISCOVERED: "found run {run_id}",
    Event.EXPERIMENT_NAMED: "named it {path}",
    Event.RUN_FINISHED: "{run_id} is finished, {steps} steps",
    Event.EVAL_COMPLETED: "eval complete: {path}",
    Event.CHECKPOINT_COMPLETED: "checkpoint complete: {path}",
    Event.HOST_LOST: "lost: {error}",
    Event.HOST_QUARANTINED: "quarantined: {error}",
    Event.FILE_CONFLICT: "conflict at {path}: {error}",
    Event.FILE_REJECTED: "rejected {path}: {error}",
}
_GROWING = {"train_log": "log", "tensorboard": "TensorBoard file"}


class EventLines:
    """Converts the daemon's events into lines; appends to growing files are shown once each, then counted."""

    def __init__(self, roots: Iterable[Path]) -> None:
        """Store the hosts' roots, which are removed from paths."""
        self._roots = [f"{root}/" for root in roots]
        self._appends: Counter[str] = Counter()

    def line(self, event: Mapping[str, object]) -> str | None:
        """Return the line for one event; None for one that is not shown."""
        name, host = event.get("event"), event.get("host", "")
        if name == Event.FILE_DOWNLOADED and event.get("kind") in _GROWING:
            return self._appended(event)
        form = _SHOWN_EVENTS.get(Event(str(name)))
        if form is None:
            return None
        fields = {key: self._short(str(value)) for key, value in event.items()}
        return f"{host:<7}{form.format_map(fields)}"

    def _appended(self, event: Mapping[str, object]) -> str | None:
        path = str(event.get("path"))
        self._appends[path] += 1
        if self._appends[path] != 2:  # noqa: PLR2004  (the first is the file itself, the second shows that it grows)
            return None
        return f"{event.get('host', ''):<7}{_GROWING[str(event.get('kind'))]} grows in place: {path.rsplit('/', 1)[-1]}"

    def _short(self, text: str) -> str:
        for root in self._roots:
            text = text.replace(root, "")
        return text

    def appends(self) -> int:
        """Return how many appends were made in place."""
        return sum(count - 1 for count in self._appends.values())


def tree(data_root: Path) -> Iterator[str]:
    """Yield the lines of the data root's tree; directories with a single entry are folded into one line."""
    files = {path.relative_to(data_root).parts: path for path in files_in(data_root)}
    yield from _branch(data_root, files, 0, "")


def _branch(data_root: Path, files: Mapping[tuple[str, ...], Path], depth: int, indent: str) -> Iterator[str]:
    names = sorted({parts[depth] for parts in files})
    for name in names:
        below = {parts: path for parts, path in files.items() if parts[depth] == name}
        shown, level = name, depth
        while len({parts[level + 1] for parts in below if len(parts) > level + 1}) == 1 and _all_deeper(below, level):
            level += 1
            shown += "/" + next(iter(below))[level]
        leaf = below.get(next(iter(below))[: level + 1])
        if leaf is not None:
            yield f"{indent}{escaped(shown)}{_size_of(leaf)}"
        else:
            yield f"{indent}{escaped(shown)}/"
            yield from _branch(data_root, below, level + 1, indent + "    ")


def _all_deeper(files: Mapping[tuple[str, ...], Path], level: int) -> bool:
    return all(len(parts) > level + 1 for parts in files)


def _size_of(path: Path) -> str:
    if path.is_symlink():
        return f" -> {escaped(str(path.readlink()))}"
    return f"  ({human_size(path.stat().st_size)})"


def human_size(size: int | None) -> str:
    """Return a size in bytes as readable text; None as "size unknown"."""
    if size is None:
        return "size unknown"
    return f"{size} B" if size < _KIB else f"{size / _KIB:.0f} KiB"


def left_out(data_root: Path) -> Iterator[str]:
    """Yield a line for each left-out entry: those of the manifests, then those without an experiment."""
    for manifest in sorted(data_root.glob("*/manifest.json")):
        yield f"{manifest.parent.name}:"
        for entry in json.loads(manifest.read_bytes())["left_out"]:
            yield _left_out_line(entry["size"], entry["path"], entry["reason"])
    with reading(data_root / ".harvestd") as connection:
        if connection is not None:
            yield "in no experiment:"
            for _, each in left_out_elsewhere(connection):
                yield _left_out_line(each.size, each.place, each.reason)


def _left_out_line(size: int | None, place: str, reason: str) -> str:
    below_the_tree = "/".join(place.split("/localfs/", 1)[-1].split("/")[1:])
    return f"    {human_size(size):>12}  {escaped(below_the_tree)}  ({escaped(reason)})"


_DEADLINE = 50.0
"""Seconds for the whole demo, until every file was fetched."""
_LOOK = 0.5
_STOP_WITHIN = 5.0

Write = Callable[[str], None]


async def show(write: Write, *, keep: Path | None = None, pace: float = 1.0) -> ExitCode:
    """Run the demo and print each event as a line; return PARTIAL if the local tree is not as expected.

    `keep`: a directory to leave everything in, for inspection afterwards.
    """
    async with AsyncExitStack() as stack:
        directory = keep or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="harvestd-demo-")))
        fleet = await stack.enter_async_context(Fleet(directory / "fleet"))
        config = directory / "harvestd.toml"
        data_root = directory / "downloaded_runs"
        await anyio.to_thread.run_sync(config.write_text, configuration(fleet, data_root))
        write("Three made-up boxes are up. The configuration:\n")
        for line in configuration(fleet, data_root).splitlines():
            write(f"    {line}")
        write("\n$ harvestd run\n")
        wrong = await _run_story(fleet, config, data_root, write, pace)
        write("\nThe tree at home:\n")
        for line in await anyio.to_thread.run_sync(lambda: list(tree(data_root))):
            write(f"    {line}")
        write("\nLeft out, and why:\n")
        for line in await anyio.to_thread.run_sync(lambda: list(left_out(data_root))):
            write(f"    {line}")
        return _verdict(wrong, write, keep)


async def _run_story(fleet: Fleet, config: Path, data_root: Path, write: Write, pace: float) -> list[str]:
    """Run the story beside the daemon; return the differences of the local tree at its end, or when time is up."""
    roots = {box.name: box.root for box in fleet.boxes}
    event_lines = EventLines(roots.values())
    wrong = ["the story was not told to its end in time"]
    async with daemon_process(config) as process, anyio.create_task_group() as tasks:
        tasks.start_soon(write_events, process, event_lines, write)
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
            write(f"\nSIGTERM: the daemon ended with {code}; {event_lines.appends()} appends were made in place")
            wrong += [f"the daemon ended with {code}"] if code else []
        if process.returncode is None:
            wrong.append(f"the daemon did not end within {_STOP_WITHIN:.0f} s")
    # Only now do the manifests match the tree.
    return wrong or await anyio.to_thread.run_sync(differences, data_root, roots)


@asynccontextmanager
async def daemon_process(config: Path) -> AsyncIterator[Process]:
    """Run the daemon for the body, with its events on a pipe."""
    command = [sys.executable, "-m", "harvestd", "run", "--config", str(config)]
    # Variables have precedence over the file: one of the caller's could name a real data root, or real hosts.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    async with await anyio.open_process(command, stderr=None, env=environment) as process:
        try:
            yield process
        finally:
            if process.returncode is None:
                process.kill()


async def write_events(process: Process, event_lines: EventLines, write: Write) -> None:
    """Write the daemon's events as lines until it ends."""
    if process.stdout is None:
        return
    rest = ""
    async for text in TextReceiveStream(process.stdout):
        *lines, rest = (rest + text).split("\n")
        for line in lines:
            shown = event_lines.line(json.loads(line))
            if shown is not None:
                write(shown)


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


def _verdict(wrong: list[str], write: Write, keep: Path | None) -> ExitCode:
    write("")
    for sentence in wrong:
        write(f"WRONG: {sentence}")
    if keep is not None:
        write(f"Everything is left in {keep} for you to look at.")
    write(
        "The tree is not what it must be." if wrong else "Every file is where the convention wants it, byte for byte."
    )
    return ExitCode.PARTIAL if wrong else ExitCode.OK
