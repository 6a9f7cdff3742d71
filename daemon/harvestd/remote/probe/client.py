"""A host that runs the probe: scans, facts and small files through one program, each on a channel of its own."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Self, TypeVar

import anyio
import anyio.lowlevel
from msgspec.structs import replace

from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import SymbolicLink
from harvestd.convention.scan.snapshot import Snapshot, Tree
from harvestd.errors import HostQuarantined
from harvestd.remote.api import (
    MOST_LINKS,
    NEVER,
    WHOLE_EVERY,
    BoxFacts,
    Limits,
    OnPartialScan,
    OwnScan,
    ReadEvent,
    ReadRequest,
    WatchList,
    ignore_partial,
)
from harvestd.remote.probe import decode, protocol
from harvestd.remote.probe.decode import ScanEnd
from harvestd.remote.probe.decode_records import BrokenAnswer, circumstances, link_targets
from harvestd.remote.probe.known_trees import RemoteIndex
from harvestd.remote.probe.process import ProbeProcess, Running, broken
from harvestd.remote.probe.protocol import Frame, Letter, Pulse
from harvestd.remote.probe.reader import ProbeReader
from harvestd.remote.probe.session import stamp_of
from harvestd.remote.ssh.connection import Connection
from harvestd.remote.ssh.errors import LinkLost, quoted
from harvestd.remote.ssh.flood_guard import MessageRate
from harvestd.safety.inputs import Circumstances

_T = TypeVar("_T")
_UNASKED = 0
"""The number of a scan that the host made by itself."""
_CIRCUMSTANCES = 3
_LINKS = 4
_SHORTEST_BEAT = timedelta(seconds=0.1)
_AT_A_STRETCH = 0.5
"""Seconds of the thread's time for one scan, before the scan yields more of it to other hosts."""
_OTHERS = 4
"""The factor by which a scan then waits longer than it works."""
_NOTHING_NEW = frozenset({Letter.UNCHANGED, Letter.WAIT})


class ProbeBox:
    """Implements `Box`. One scan or query about facts at a time; reads run beside them."""

    method = "probe"
    hashes_there = True
    without_probe = None

    def __init__(
        self, connection: Connection, watch: WatchList, limits: Limits, pulse: Pulse, every: timedelta | None = None
    ) -> None:
        self._connection = connection
        self._watch = watch
        self._every = None if every is None else every.total_seconds()
        """The interval in which the program scans by itself, if it pushes at all."""
        self._limits = limits
        if every is not None:
            # The age of a scan is counted from the last heartbeat before it.
            pulse = replace(pulse, interval=min(pulse.interval, max(every, _SHORTEST_BEAT)))
        self._running = Running(connection, limits, pulse)
        self.drifting: set[Tree] = set()
        """Trees whose versions have neither inodes nor change times; further readers of this host share this set."""
        self._reader = ProbeReader(self._running, self.drifting)
        self._known = RemoteIndex(watch.trees, limits)
        self.round_trip: float | None = None
        self._scanned_by: ProbeProcess | None = None
        """The process whose changes `_known` holds: a delta is only valid for the process that sent all before it."""
        self._last_number = 0
        self._awaited: dict[int, float] = {}
        """The scans that were requested and have not ended, waited for or not: the time of the request, by number."""
        self._is_scanned = False
        """Whether `_known` holds a whole scan."""
        self.last_scan_began = NEVER
        self._facts_requested = False
        self._unread = 0
        """The number of answers about facts that are still to come; only the last of them is waited for."""
        self._ahead: int | None = None
        """The number of a scan that was requested and is not waited for yet."""
        self._whole_at = NEVER
        self._reports = MessageRate(connection.meter)
        """Scans of the host's own that were reported lately."""
        self._scanning = anyio.Lock()
        self._querying = anyio.Lock()

    @classmethod
    async def start(
        cls, connection: Connection, watch: WatchList, limits: Limits, pulse: Pulse, every: timedelta | None = None
    ) -> Self:
        """Start the probe; raise `NoProbe` where the host can't run it, `Retry` when the link fails.

        The first requests are sent with the program, which saves the first scan a round trip each.
        """
        box = cls(connection, watch, limits, pulse, every)
        requested_at = time.monotonic()
        questions = [box._scan_question(), box._facts_question()]
        await box._running.start(questions)
        box._scanned_by = await box._running.get()
        box.round_trip = box._scanned_by.round_trip
        box._ahead = box._last_number
        box._awaited = {box._last_number: requested_at}
        box._facts_requested = True
        box._unread = 1
        return box

    def _scan_question(self) -> dict[str, object]:
        self._last_number += 1
        whole = time.monotonic() - self._whole_at >= WHOLE_EVERY
        if whole:
            self._whole_at = time.monotonic()
        return {
            "do": "scan",
            "id": self._last_number,
            "trees": [[tree.root, tree.name, tree.kind.counts_bare_directories] for tree in self._watch.trees],
            "prune": sorted(self._watch.prune),
            "entries": self._limits.entries,
            "whole": whole,
            "push": self._watch.push,
            "every": self._every if self._watch.push else None,
            "at": stamp_of(time.monotonic()),
        }

    def _facts_question(self) -> dict[str, object]:
        return {"do": "facts", "id": 1, "roots": [tree.root for tree in self._watch.trees[:1]]}

    @asynccontextmanager
    async def _conversation(self) -> AsyncIterator[ProbeProcess]:
        """Yield the process for one request; after an invalid answer the process is ended.

        After a cancellation it is kept, since other tasks may still use it. The abandoned answer is then read before
        the next one of the same channel.
        """
        process = await self._running.get()
        if process is not self._scanned_by:
            self._known = RemoteIndex(self._watch.trees, self._limits)
            self._scanned_by, self._ahead, self._facts_requested = process, None, False
            self._is_scanned = False
            self._awaited.clear()
            self._unread = 0
        try:
            yield process
        except BrokenAnswer as e:
            self._running.give_up()
            raise broken(self._connection, e) from e
        except Exception:
            self._running.give_up()
            raise

    async def scan(self, on_partial: OnPartialScan = ignore_partial) -> Snapshot:
        """See `Box.scan`."""
        async with self._scanning, self._conversation() as process:
            number, self._ahead = self._ahead, None
            if number is None:
                number = self._request_scan(process)
            return await self._scanned(process, number, on_partial)

    async def scan_whole(self) -> Snapshot:
        """See `Box.scan_whole`."""
        async with self._scanning, self._conversation() as process:
            if self._ahead is not None:
                # It may have been an incremental one.
                number, self._ahead = self._ahead, None
                await self._read_scan(process, number)
            self._whole_at = NEVER
            return await self._scanned(process, self._request_scan(process))

    def _request_scan(self, process: ProbeProcess) -> int:
        """Request a scan; return its number."""
        requested_at = time.monotonic()
        process.send(self._scan_question(), process.looks)
        self._awaited[self._last_number] = requested_at
        return self._last_number

    async def _scanned(
        self, process: ProbeProcess, number: int, on_partial: OnPartialScan = ignore_partial
    ) -> Snapshot:
        """Read the changes of scan `number`, and return the snapshot of all scans."""
        await self._read_scan(process, number, on_partial)
        process.looks.expecting = self._watch.push or bool(self._awaited)
        if process.looks.frames and not process.looks.expecting:
            raise BrokenAnswer("unrequested changes")
        return self._known.snapshot()

    def scan_ahead(self) -> None:
        """See `Box.scan_ahead`."""
        if self._ahead is None and self._scanned_by is not None and self._scanned_by.alive:
            self._ahead = self._request_scan(self._scanned_by)

    async def pushed(self) -> Snapshot:
        """See `Box.pushed`."""
        async with self._scanning, self._conversation() as process:
            if not (self._is_scanned or self._awaited):
                # The program was started anew, and has scanned nothing yet.
                return await self._scanned(process, self._request_scan(process))
            # Scans that are not waited for any more have to end before unrequested changes are read.
            for number in sorted(self._awaited):
                await self._read_scan(process, number)
            while self._holds_news(process):
                await self._read_scan(process, _UNASKED)
            return self._known.snapshot()

    def _holds_news(self, process: ProbeProcess) -> bool:
        """Return whether anything of a scan arrived, after dropping keep-alive frames: nothing need follow these."""
        while process.looks.frames and process.looks.frames[0].letter is Letter.WAIT:
            process.take(process.looks)
        return bool(process.looks.frames)

    async def changed(self) -> None:
        """See `Box.changed`."""
        process = await self._running.get()
        await process.arrival(process.looks)

    def scan_every(self, seconds: float | None) -> bool:
        """See `Box.scan_every`."""
        self._every = seconds
        return self._watch.push

    def own_scans(self) -> Sequence[OwnScan] | None:
        """See `Box.own_scans`."""
        process = self._scanned_by
        if process is None or not process.alive or self._scanning.locked() or self._awaited:
            return None
        if any(frame.letter not in _NOTHING_NEW for frame in process.looks.frames):
            return None
        found = []
        try:
            while process.looks.frames:
                frame = process.take(process.looks)
                if frame.letter is Letter.UNCHANGED:
                    found.append(self._note_unchanged(frame))
        except BrokenAnswer as e:
            self._running.give_up()
            raise broken(self._connection, e) from e
        return found

    def _note_unchanged(self, frame: Frame) -> OwnScan:
        """Note a scan of the host's own that found nothing new. Raise `BrokenAnswer`."""
        end = decode.unchanged(frame.payload)
        self._complete(end)
        return OwnScan(self.last_scan_began, min(end.duration, self._limits.scan_time.total_seconds()))

    def _complete(self, end: ScanEnd) -> None:
        """Apply the end of a scan, and note when the scan began at the earliest, by our clock."""
        if end.scan == _UNASKED:
            self._reports.count(time.monotonic())
        requested_at = self._awaited.pop(end.scan, NEVER)
        stamp = NEVER if end.stamp is None else end.stamp / 1000
        # No scan began later than now, whatever the host says.
        self.last_scan_began = max(self.last_scan_began, min(max(stamp, requested_at), time.monotonic()))
        self._known.complete(end)

    async def _read_scan(self, process: ProbeProcess, number: int, on_partial: OnPartialScan = ignore_partial) -> None:
        """Read the changes of scan `number` up to its end, and those of scans that end before it."""
        seconds = self._limits.scan_time.total_seconds()
        try:
            with anyio.fail_after(seconds):
                while await self._read_next_scan(process, on_partial) != number:
                    pass
        except TimeoutError as e:
            raise LinkLost(
                f"{self._connection.target}: a scan of all trees took longer than {seconds:g} s{process.whereabouts}",
                hint="a slow file system, or too much below the roots: limits.scan_time says how long it may take",
            ) from e

    async def _read_next_scan(self, process: ProbeProcess, on_partial: OnPartialScan) -> int:
        """Read the changes of the next scan; return its number."""
        trees = len(self._watch.trees)
        spent = 0.0
        while True:
            frame = await process.frame(process.looks)
            match frame.letter:
                case Letter.SCAN_PART:
                    began = time.thread_time()
                    part = decode.scan_part(frame.payload, trees, self._limits.part_bytes)
                    self._known.take(part)
                    on_partial(self._watch.trees[part.tree], part.changed)
                    duration = time.thread_time() - began
                    spent += duration
                    # Checking a thousand names takes milliseconds: yield to the other hosts in between, and for most of
                    # the time where a scan goes on for long.
                    await anyio.sleep(duration * _OTHERS if spent > _AT_A_STRETCH else 0)
                case Letter.SCAN_END:
                    end = decode.scan_end(frame.payload, trees)
                    if end.scan != _UNASKED and end.scan not in self._awaited:
                        raise BrokenAnswer("an answer to another question")
                    self._complete(end)
                    self._is_scanned = True
                    for state in end.trees:
                        change = self.drifting.add if state.drifts else self.drifting.discard
                        change(self._watch.trees[state.tree])
                    return end.scan
                case Letter.UNCHANGED:
                    self._note_unchanged(frame)
                    return _UNASKED
                case _:
                    self._refused(frame)

    def _refused(self, frame: Frame) -> None:
        kind, why = decode.refusal(frame.payload)
        target = self._connection.target
        if kind == "entries":
            raise HostQuarantined(
                f"{target}: more than {self._limits.entries} entries below its roots",
                hint="name what is to be pruned, or narrower roots",
            )
        raise LinkLost(f"{target}: the box can't look at its trees ({quoted(why)})")

    async def facts(self) -> BoxFacts:
        """See `Box.facts`."""
        async with self._querying, self._conversation() as process:
            if not self._facts_requested:
                await self._send_alone(process, self._facts_question())
            self._facts_requested = False
            return decode.facts(await self._read_facts(process))

    async def gpu_processes(self) -> int | None:
        """See `Box.gpu_processes`."""
        return await self._query_alone({"do": "processes", "id": 2}, decode.gpu_processes)

    async def circumstances(self, lately: timedelta) -> Circumstances:
        """See `Box.circumstances`."""
        roots = list(dict.fromkeys(tree.root for tree in self._watch.trees))
        question = {
            "do": "circumstances",
            "id": _CIRCUMSTANCES,
            "program": protocol.later(),
            "trees": [[tree.root, tree.name] for tree in self._watch.trees],
            "roots": roots,
            "lately": lately.total_seconds(),
            "seconds": self._limits.inspect_time.total_seconds(),
        }
        return await self._query_alone(question, lambda payload: circumstances(payload, _CIRCUMSTANCES, roots))

    async def link_targets(self, links: Sequence[SymbolicLink]) -> Mapping[str, LinkTarget]:
        """See `Box.link_targets`."""
        index = {tree: number for number, tree in enumerate(self._watch.trees)}
        requested = [link for link in links if link.tree in index][:MOST_LINKS]
        if not requested:
            return {}
        question = {
            "do": "links",
            "id": _LINKS,
            "program": protocol.later(),
            "trees": [[tree.root, tree.name] for tree in self._watch.trees],
            "links": [[index[link.tree], str(link.path)] for link in requested],
            "seconds": self._limits.inspect_time.total_seconds(),
        }
        return await self._query_alone(question, lambda payload: link_targets(payload, _LINKS, requested))

    async def _query_alone(self, question: dict[str, object], understood: Callable[[bytes], _T]) -> _T:
        """Send a request after all earlier ones, and return the decoded answer."""
        async with self._querying, self._conversation() as process:
            await self._send_alone(process, question)
            return understood(await self._read_facts(process))

    async def _send_alone(self, process: ProbeProcess, question: dict[str, object]) -> None:
        """Send a request, after the answers to earlier abandoned requests were read."""
        self._facts_requested = False
        while self._unread:
            await self._read_facts(process)
        process.send(question, process.facts)
        self._unread += 1

    async def _read_facts(self, process: ProbeProcess) -> bytes:
        """Read the next answer about facts."""
        frame = await process.frame(process.facts)
        self._unread -= 1
        process.facts.expecting = self._unread > 0
        return frame.payload

    def reading(self, requests: Sequence[ReadRequest]) -> AbstractAsyncContextManager[AsyncIterator[ReadEvent]]:
        """See `Reader.reading`."""
        return self._reader.reading(requests)

    def close(self) -> None:
        """End the program on the host."""
        self._running.give_up()
