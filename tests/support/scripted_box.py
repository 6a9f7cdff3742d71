"""A made-up host that changes by script, also in the middle of an answer, and remembers all that it ever showed.

It can be pickled, and the same changes make the same contents: who plays it in another process need only hear how many
of the changes were made there.
"""

import hashlib
import json
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import Final

import anyio

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import SymbolicLink
from harvestd.convention.scan.snapshot import Entry, EntryType, Listing, Snapshot, Tree, TreeKind, TreeState, Version
from harvestd.errors import Retry
from harvestd.remote.api import (
    NEVER,
    BoxFacts,
    Chunk,
    Closed,
    Failed,
    OnPartialScan,
    Opened,
    OwnScan,
    ReadEvent,
    ReadRequest,
    Whole,
    ignore_partial,
)
from harvestd.safety.inputs import Circumstances

ROOT: Final = "/scripted"
TREES: Final = (Tree(ROOT, "training_runs", TreeKind.TRAINING), Tree(ROOT, "eval_runs", TreeKind.EVAL))
_HOUR: Final = 3600 * 10**9
_WHILE_GLIMPSED: Final = 5
"""Turns of the event loop between what is glimpsed and the whole look: enough for some of it to be read."""


def _run(name: str) -> dict[str, int]:
    state = f"training_runs/{name}/training_state/step_final"
    leaf = f"eval_runs/{name}_gsm8k/step_final/t0"
    return {
        f"training_runs/{name}/config.yaml": 60,
        f"training_runs/{name}/logs/train_log.jsonl": 90,
        f"{state}/optimizer.pt": 6000,
        f"{state}/training_info.json": 40,
        f"{leaf}/metrics.csv": 80,
        f"{leaf}/run_meta.json": 40,
    }


PATHS: Final = {**_run("run_2025-08-20_03-31-43"), **_run("run_2025-08-21_09-12-05")}
"""All that can be on the host, in the order in which it is written, with the bytes that it has about."""
_MARKERS = {"training_info.json": "optimizer.pt", "run_meta.json": "metrics.csv"}


class Deed(StrEnum):
    """What can happen to a file, or to an answer about one."""

    WRITE = "write"
    """New content of any length, in place."""
    REPLACE = "replace"
    """New content of the same length, as a new file."""
    APPEND = "append"
    TRUNCATE = "truncate"
    REMOVE = "remove"
    ROTATE = "rotate"
    """It has another name from now on, which means something in a checkpoint only."""
    GARBLE = "garble"
    """The next two answers about it do not bring the bytes that were hashed."""
    CUT = "cut"
    """The link breaks."""


@dataclass(frozen=True)
class Change:
    """One thing that happens."""

    deed: Deed
    path: str


@dataclass(frozen=True)
class File:
    """One file as it is now."""

    content: bytes
    version: Version


@dataclass
class Host:
    """What is on the host, and what was."""

    files: dict[str, File] = field(default_factory=dict)
    shown: dict[str, list[bytes]] = field(default_factory=dict)
    """Every content that was ever at a path."""
    ticks: int = 10**18
    """The host's clock: each change has a moment of its own."""

    def make(self, change: Change) -> None:
        """Let something happen; to what is not there nothing does, unless it is written."""
        before = self.files.get(change.path)
        match change.deed:
            case Deed.WRITE:
                self._put(change.path, self._content(change.path), before)
            case Deed.REPLACE if before:
                new = self._content(change.path)
                self._put(change.path, new, None)
            case Deed.APPEND if before:
                self._put(change.path, before.content + f'{{"line": {self.ticks + 1}}}\n'.encode(), before)
            case Deed.TRUNCATE if before:
                self._put(change.path, before.content[: len(before.content) // 2], before)
            case Deed.REMOVE if before:
                del self.files[change.path]
            case Deed.ROTATE if before:
                self.files[f"{change.path}.old"] = self.files.pop(change.path)
                self.shown.setdefault(f"{change.path}.old", []).append(before.content)
            case _:
                pass

    def finish(self) -> None:
        """Write what is missing to what was begun, markers last: then all of it is wanted and whole."""
        for name in sorted({path.split("/")[1] for path in self.files if path.startswith("training_runs/")}):
            if f"training_runs/{name}/config.yaml" not in self.files:
                self.make(Change(Deed.WRITE, f"training_runs/{name}/config.yaml"))
        for path in PATHS:
            directory, _, name = path.rpartition("/")
            if name in _MARKERS:
                content = f"{directory}/{_MARKERS[name]}"
                if path in self.files and content not in self.files:
                    self.make(Change(Deed.WRITE, content))
                if content in self.files:
                    self.make(Change(Deed.WRITE, path))

    def _put(self, path: str, content: bytes, before: File | None) -> None:
        self.ticks += 1
        inode = before.version.inode if before else self.ticks
        self.files[path] = File(content, Version(len(content), self.ticks, self.ticks, inode))
        self.shown.setdefault(path, []).append(content)

    def _content(self, path: str) -> bytes:
        serial, name = self.ticks + 1, path.rpartition("/")[2]
        if name.endswith(".json"):
            return json.dumps({"step": 64, "base_model": "Qwen/Qwen2.5-1.5B", "serial": serial}).encode()
        line = {
            "config.yaml": f"backbone: Qwen/Qwen2.5-1.5B\ntotal_steps: 64\nserial: {serial}\n",
            "train_log.jsonl": f'{{"step": {serial}}}\n',
        }.get(name, f"{serial},{serial}\n").encode()
        return line if name == "config.yaml" else line * (PATHS.get(path, 40) // len(line) + 1 + serial % 3)


class ScriptedBox:
    """The host as a connected box; the n-th change of the script is made, and told, at the turn that it names."""

    hashes_there = True

    without_probe = None
    method = "scripted"
    round_trip = 0.0

    def __init__(self, host: Host, script: Sequence[tuple[int, Change]], told: Callable[[], object]) -> None:
        """Play a script in the order of its turns; a turn is a look, or a part of an answer."""
        self._host = host
        self._script = list(script)
        self._told = told
        self._turn = 0
        self._garbled: Counter[str] = Counter()
        self.last_scan_began = NEVER

    def _pass_time(self) -> None:
        self._turn += 1
        while self._script and self._script[0][0] <= self._turn:
            change = self._script.pop(0)[1]
            self._told()
            self._host.make(change)
            self._garbled[change.path] += 2 * (change.deed is Deed.GARBLE)
            if change.deed is Deed.CUT:
                raise Retry("the link broke, as the script says")

    async def scan(self, on_partial: OnPartialScan = ignore_partial) -> Snapshot:
        """Show all; nothing was written within the last hour. What was glimpsed may be over when the look is whole."""
        self.last_scan_began = time.monotonic()
        for tree in TREES:
            on_partial(tree, tuple(self._listing(tree).entries.values()))
        for _ in range(_WHILE_GLIMPSED):
            await anyio.lowlevel.checkpoint()
        self._pass_time()
        await anyio.lowlevel.checkpoint()
        listings = tuple(self._listing(tree) for tree in TREES)
        return Snapshot(listings, self._host.ticks + _HOUR)

    def _listing(self, tree: Tree) -> Listing:
        entries: dict[RemotePath, Entry] = {}
        for path, file in self._host.files.items():
            name, _, below = path.partition("/")
            if name == tree.name:
                place = RemotePath.parse(below)
                for depth in range(1, len(place.parts)):
                    above = RemotePath(place.parts[:depth])
                    entries[above] = Entry(above, EntryType.DIRECTORY, Version(0, 0))
                entries[place] = Entry(place, EntryType.FILE, file.version)
        return Listing(tree, TreeState.PRESENT, filesystem="ext4", entries=entries)

    async def scan_whole(self) -> Snapshot:
        """See `Box.scan_whole`."""
        return await self.scan()

    def scan_ahead(self) -> None:
        """Begin nothing."""

    def scan_every(self, seconds: float | None) -> bool:  # noqa: ARG002  (the contract's)
        """Never scan unasked."""
        return False

    def own_scans(self) -> Sequence[OwnScan] | None:
        """Have nothing to tell but by `pushed`."""
        return None

    async def changed(self) -> None:
        """Never tell anything unasked."""
        await anyio.sleep_forever()

    async def pushed(self) -> Snapshot:
        """Return a look."""
        return await self.scan()

    async def facts(self) -> BoxFacts:
        """Know nothing."""
        return BoxFacts()

    async def gpu_processes(self) -> int | None:
        """Know nothing."""
        return None

    async def circumstances(self, lately: timedelta) -> Circumstances:  # noqa: ARG002  (the contract's)
        """Know nothing."""
        return Circumstances()

    async def link_targets(self, links: Sequence[SymbolicLink]) -> Mapping[str, LinkTarget]:  # noqa: ARG002  (the contract's)
        """Know nothing."""
        return {}

    @asynccontextmanager
    async def reading(self, requests: Sequence[ReadRequest]) -> AsyncIterator[AsyncIterator[ReadEvent]]:
        """Answer as a box does, two pieces a file, with time in between."""
        yield self._answers(requests)

    async def _answers(self, requests: Sequence[ReadRequest]) -> AsyncIterator[ReadEvent]:
        for request in requests:
            self._pass_time()
            await anyio.lowlevel.checkpoint()
            path = f"{request.tree.name}/{request.path}"
            opened = self._host.files.get(path)
            if opened is None:
                yield Failed(request, "vanished", vanished=True)
                continue
            verified = None
            if request.verify_from is not None:
                verified = hashlib.sha256(opened.content[request.verify_from : request.offset]).hexdigest()
            if not request.in_one:
                yield Opened(request, opened.version, verified)
            end = opened.version.size if request.length is None else request.offset + request.length
            middle = (request.offset + min(end, opened.version.size)) // 2
            sent = opened.content[request.offset : middle]
            self._pass_time()
            # An open file is read on where it was removed or replaced; what is written in place is seen.
            now = self._host.files.get(path)
            file = now if now is not None and now.version.inode == opened.version.inode else opened
            sent += file.content[middle:end]
            digest = hashlib.sha256(sent)
            if self._garbled[path] > 0 and sent:
                self._garbled[path] -= 1
                half = len(sent) // 2
                sent = sent[:half] + bytes([sent[half] ^ 1]) + sent[half + 1 :]
            if not request.in_one:
                yield Chunk(sent)
                yield Closed(request, file.version, digest.hexdigest())
            elif file.version == opened.version:
                yield Whole(request, file.version, digest.digest(), sent)
            else:
                yield Failed(request, "changed while it was read")
