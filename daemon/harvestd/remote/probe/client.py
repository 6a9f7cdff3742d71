"""A box that runs the probe: looks, facts and small files through one program, each a conversation of its own."""

import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from typing import Self, TypeVar

import anyio
import anyio.lowlevel

from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.model import SymbolicLink
from harvestd.convention.scan.snapshot import Snapshot, Tree
from harvestd.errors import HostQuarantined
from harvestd.remote.api import MOST_LINKS, BoxFacts, Glimpse, Limits, ReadEvent, ReadRequest, WatchList, unseen
from harvestd.remote.probe import bootstrap, decode
from harvestd.remote.probe.bootstrap import Pulse
from harvestd.remote.probe.decode_circumstances import circumstances, link_targets
from harvestd.remote.probe.decode_fields import BrokenAnswer
from harvestd.remote.probe.known_trees import KnownTrees
from harvestd.remote.probe.process import ProbeProcess, broken
from harvestd.remote.probe.protocol import Frame, Letter
from harvestd.remote.probe.reader import ProbeReader
from harvestd.remote.probe.restart import Running
from harvestd.remote.ssh.connect import Connection
from harvestd.remote.ssh.errors import LinkLost, quoted
from harvestd.safety.circumstances import Circumstances

_T = TypeVar("_T")
_UNASKED = 0
"""The number of a look that the box took by itself."""
_CIRCUMSTANCES = 3
_LINKS = 4
_AT_A_STRETCH = 0.5
"""Seconds of our thread's time for one look, before a host has to leave more to the others."""
_OTHERS = 4
"""How many times as long as for its names the others have then."""
_NEVER = float("-inf")
WHOLE_EVERY = 600.0
"""Seconds after which every entry is looked at again, also where notices and recent changes point to none."""


class ProbeBox:
    """Implements `Box`. One scan or question about facts at a time; reads run beside them."""

    method = "probe"
    hashes_there = True
    without_probe = None

    def __init__(self, connection: Connection, watch: WatchList, limits: Limits, pulse: Pulse) -> None:
        self._connection = connection
        self._watch = watch
        self._limits = limits
        self._running = Running(connection, limits, pulse)
        self.drifting: set[Tree] = set()
        """Trees whose versions are told without inodes and change times; further readers of this host share it."""
        self._reader = ProbeReader(self._running, self.drifting)
        self._known = KnownTrees(watch.trees, limits)
        self.round_trip: float | None = None
        self._told_by: ProbeProcess | None = None
        """Whose news `_known` is made of: a delta means something only to the process that told all before it."""
        self._asked = 0
        self._awaited: set[int] = set()
        """The numbers of the looks that were asked for and have not ended, whether or not they are waited for."""
        self._facts_asked = False
        self._unheard = 0
        """Answers about facts that are still to come; only the last of them is waited for."""
        self._ahead: int | None = None
        """The number of a look that was asked for and is not waited for yet."""
        self._whole_at = _NEVER
        self._looking = anyio.Lock()
        self._asking = anyio.Lock()

    @classmethod
    async def start(cls, connection: Connection, watch: WatchList, limits: Limits, pulse: Pulse) -> Self:
        """Start the probe; raises `NoProbe` where the box can't run it, `Retry` when the link fails.

        The first questions travel with the program: a round trip each is what a first look can do without.
        """
        box = cls(connection, watch, limits, pulse)
        questions = [box._scan_question(), box._facts_question()]
        await box._running.start(questions)
        box._told_by = await box._running.get()
        box.round_trip = box._told_by.round_trip
        box._ahead = box._asked
        box._awaited = {box._asked}
        box._facts_asked = True
        box._unheard = 1
        return box

    def _scan_question(self) -> dict[str, object]:
        self._asked += 1
        whole = time.monotonic() - self._whole_at >= WHOLE_EVERY
        if whole:
            self._whole_at = time.monotonic()
        return {
            "do": "scan",
            "id": self._asked,
            "trees": [[tree.root, tree.name, tree.kind.counts_bare_directories] for tree in self._watch.trees],
            "prune": sorted(self._watch.prune),
            "entries": self._limits.entries,
            "whole": whole,
            "push": self._watch.push,
        }

    def _facts_question(self) -> dict[str, object]:
        return {"do": "facts", "id": 1, "roots": [tree.root for tree in self._watch.trees[:1]]}

    @asynccontextmanager
    async def _conversation(self) -> AsyncIterator[ProbeProcess]:
        """Provide the process for one question; after an answer that is none it is thrown away.

        After a cancellation it is not: other tasks may talk with it still. The answer that is not waited for any more
        is taken before the next one of the same conversation.
        """
        process = await self._running.get()
        if process is not self._told_by:
            self._known = KnownTrees(self._watch.trees, self._limits)
            self._told_by, self._ahead, self._facts_asked = process, None, False
            self._awaited.clear()
            self._unheard = 0
        try:
            yield process
        except BrokenAnswer as e:
            self._running.give_up()
            raise broken(self._connection, e) from e
        except Exception:
            self._running.give_up()
            raise

    async def scan(self, glimpse: Glimpse = unseen) -> Snapshot:
        """See `Box.scan`."""
        async with self._looking, self._conversation() as process:
            number, self._ahead = self._ahead, None
            if number is None:
                number = self._ask_for_look(process)
            return await self._looked(process, number, glimpse)

    async def scan_whole(self) -> Snapshot:
        """See `Box.scan_whole`."""
        async with self._looking, self._conversation() as process:
            if self._ahead is not None:
                # It may have been a light one.
                number, self._ahead = self._ahead, None
                await self._look(process, number)
            self._whole_at = _NEVER
            return await self._looked(process, self._ask_for_look(process))

    def _ask_for_look(self, process: ProbeProcess) -> int:
        """Ask for a look; return its number."""
        process.ask(self._scan_question(), process.looks)
        self._awaited.add(self._asked)
        return self._asked

    async def _looked(self, process: ProbeProcess, number: int, glimpse: Glimpse = unseen) -> Snapshot:
        """Take the news of the look that was asked for last, and give what all looks came to."""
        await self._look(process, number, glimpse)
        process.looks.expecting = self._watch.push or bool(self._awaited)
        if process.looks.frames and not process.looks.expecting:
            raise BrokenAnswer("news that nobody asked for")
        return self._known.snapshot()

    def look_ahead(self) -> None:
        """See `Box.look_ahead`."""
        if self._ahead is None and self._told_by is not None and self._told_by.alive:
            self._ahead = self._ask_for_look(self._told_by)

    async def pushed(self) -> Snapshot:
        """See `Box.pushed`."""
        async with self._looking, self._conversation() as process:
            # A look that nobody waits for any more has ended before what is told unasked is asked for.
            for number in sorted(self._awaited):
                await self._look(process, number)
            while process.looks.frames:
                await self._look(process, _UNASKED)
            return self._known.snapshot()

    async def changed(self) -> None:
        """See `Box.changed`."""
        process = await self._running.get()
        await process.arrival(process.looks)

    async def _look(self, process: ProbeProcess, number: int, glimpse: Glimpse = unseen) -> None:
        """Take the news of a look up to its end, and those of looks that end before it."""
        seconds = self._limits.scan_time.total_seconds()
        try:
            with anyio.fail_after(seconds):
                while await self._take_look(process, glimpse) != number:
                    pass
        except TimeoutError as e:
            raise LinkLost(
                f"{self._connection.target}: a scan of all trees took longer than {seconds:g} s{process.whereabouts}",
                hint="a slow file system, or too much below the roots: limits.scan_time says how long it may take",
            ) from e

    async def _take_look(self, process: ProbeProcess, glimpse: Glimpse) -> int:
        """Take the news of the next look; gives its number."""
        trees = len(self._watch.trees)
        spent = 0.0
        while True:
            frame = await process.frame(process.looks)
            match frame.letter:
                case Letter.SCAN_PART:
                    began = time.thread_time()
                    part = decode.scan_part(frame.payload, trees, self._limits.part_bytes)
                    self._known.take(part)
                    glimpse(self._watch.trees[part.tree], part.changed)
                    took = time.thread_time() - began
                    spent += took
                    # Checking a thousand names takes milliseconds: let the other hosts have their turn between, and
                    # far the most of the time where that goes on and on.
                    await anyio.sleep(took * _OTHERS if spent > _AT_A_STRETCH else 0)
                case Letter.SCAN_END:
                    end = decode.scan_end(frame.payload, trees)
                    if end.scan != _UNASKED and end.scan not in self._awaited:
                        raise BrokenAnswer("an answer to another question")
                    self._awaited.discard(end.scan)
                    self._known.complete(end)
                    for news in end.trees:
                        change = self.drifting.add if news.drifts else self.drifting.discard
                        change(self._watch.trees[news.tree])
                    return end.scan
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
        async with self._asking, self._conversation() as process:
            if not self._facts_asked:
                await self._ask_alone(process, self._facts_question())
            self._facts_asked = False
            return decode.facts(await self._heard(process))

    async def gpu_processes(self) -> int | None:
        """See `Box.gpu_processes`."""
        return await self._asked_alone({"do": "processes", "id": 2}, decode.gpu_processes)

    async def circumstances(self, lately: timedelta) -> Circumstances:
        """See `Box.circumstances`."""
        roots = list(dict.fromkeys(tree.root for tree in self._watch.trees))
        question = {
            "do": "circumstances",
            "id": _CIRCUMSTANCES,
            "program": bootstrap.later(),
            "trees": [[tree.root, tree.name] for tree in self._watch.trees],
            "roots": roots,
            "lately": lately.total_seconds(),
            "seconds": self._limits.inspect_time.total_seconds(),
        }
        return await self._asked_alone(question, lambda payload: circumstances(payload, _CIRCUMSTANCES, roots))

    async def link_targets(self, links: Sequence[SymbolicLink]) -> Mapping[str, LinkTarget]:
        """See `Box.link_targets`."""
        index = {tree: number for number, tree in enumerate(self._watch.trees)}
        asked = [link for link in links if link.tree in index][:MOST_LINKS]
        if not asked:
            return {}
        question = {
            "do": "links",
            "id": _LINKS,
            "program": bootstrap.later(),
            "trees": [[tree.root, tree.name] for tree in self._watch.trees],
            "links": [[index[link.tree], str(link.path)] for link in asked],
            "seconds": self._limits.inspect_time.total_seconds(),
        }
        return await self._asked_alone(question, lambda payload: link_targets(payload, _LINKS, asked))

    async def _asked_alone(self, question: dict[str, object], understood: Callable[[bytes], _T]) -> _T:
        """Ask what is asked for alone, and give the answer as it is understood."""
        async with self._asking, self._conversation() as process:
            await self._ask_alone(process, question)
            return understood(await self._heard(process))

    async def _ask_alone(self, process: ProbeProcess, question: dict[str, object]) -> None:
        """Ask, once the answers have come to what was asked before and nobody waits for any more."""
        self._facts_asked = False
        while self._unheard:
            await self._heard(process)
        process.ask(question, process.facts)
        self._unheard += 1

    async def _heard(self, process: ProbeProcess) -> bytes:
        """Take the next answer about facts."""
        frame = await process.frame(process.facts)
        self._unheard -= 1
        process.facts.expecting = self._unheard > 0
        return frame.payload

    def reading(self, requests: Sequence[ReadRequest]) -> AbstractAsyncContextManager[AsyncIterator[ReadEvent]]:
        """See `Reader.reading`."""
        return self._reader.reading(requests)

    def close(self) -> None:
        """End the program on the box."""
        self._running.give_up()
