"""A box that runs the probe: scans and facts through one process, reads through another."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Self

import anyio
import anyio.lowlevel

from harvestd.convention.snapshot import Snapshot
from harvestd.errors import HostQuarantined
from harvestd.remote.box import BoxFacts, Limits, ReadEvent, ReadRequest, WatchList
from harvestd.remote.connecting import Connection
from harvestd.remote.failures import LinkLost, quoted
from harvestd.remote.probe import answers
from harvestd.remote.probe.answers import BrokenAnswer
from harvestd.remote.probe.bootstrap import Pulse
from harvestd.remote.probe.frames import Frame, Letter
from harvestd.remote.probe.known_trees import KnownTrees
from harvestd.remote.probe.process import NoProbe, ProbeProcess, broken
from harvestd.remote.probe.reader import ProbeReader


class ProbeBox:
    """Implements `Box`. One scan or question about facts at a time; reads run beside them."""

    method = "probe"

    def __init__(self, connection: Connection, watch: WatchList, limits: Limits, pulse: Pulse) -> None:
        self._connection = connection
        self._watch = watch
        self._limits = limits
        self._pulse = pulse
        self._reader = ProbeReader(connection, limits, pulse)
        self._process: ProbeProcess | None = None
        self._known = KnownTrees(watch.trees, limits)
        self._asked = 0
        self._lock = anyio.Lock()

    @classmethod
    async def start(cls, connection: Connection, watch: WatchList, limits: Limits, pulse: Pulse) -> Self:
        """Start the probe; raises `NoProbe` where the box can't run it, `Retry` when the link fails."""
        box = cls(connection, watch, limits, pulse)
        box._process = await ProbeProcess.start(connection, limits, pulse)
        return box

    @asynccontextmanager
    async def _conversation(self) -> AsyncIterator[ProbeProcess]:
        """Give the process for one question; after anything but a whole answer it is thrown away.

        The next one starts from nothing: a delta means something only to the process that told all before it.
        """
        async with self._lock:
            if self._process is None or not self._process.alive:
                self._forget()
                try:
                    self._process = await ProbeProcess.start(self._connection, self._limits, self._pulse)
                except NoProbe as e:
                    raise LinkLost(f"{self._connection.target}: the probe does not start ({e})") from e
            try:
                yield self._process
            except BrokenAnswer as e:
                self._forget()
                raise broken(self._connection, e) from e
            except BaseException:
                self._forget()
                raise

    def _forget(self) -> None:
        process, self._process = self._process, None
        self._known = KnownTrees(self._watch.trees, self._limits)
        if process is not None:
            process.close()

    def _ask(self, process: ProbeProcess, request: dict[str, object]) -> int:
        self._asked += 1
        process.ask({**request, "id": self._asked})
        return self._asked

    async def scan(self) -> Snapshot:
        """See `Box.scan`."""
        seconds = self._limits.scan_time.total_seconds()
        async with self._conversation() as process:
            try:
                with anyio.fail_after(seconds):
                    return await self._scanned(process)
            except TimeoutError as e:
                raise LinkLost(
                    f"{self._connection.target}: a look at all trees took longer than {seconds:g} s",
                    hint="a slow or hanging file system, or too much below the roots",
                ) from e

    async def _scanned(self, process: ProbeProcess) -> Snapshot:
        trees = [[tree.root, tree.name] for tree in self._watch.trees]
        request = {"do": "scan", "trees": trees, "prune": sorted(self._watch.prune), "entries": self._limits.entries}
        number = self._ask(process, request)
        while True:
            frame = await process.frame()
            match frame.letter:
                case Letter.SCAN_PART:
                    part = answers.scan_part(frame.payload, len(trees), self._limits.frame_bytes)
                    self._known.take(part)
                    # Checking a thousand names takes milliseconds: let the other hosts have their turn between.
                    await anyio.lowlevel.checkpoint()
                case Letter.SCAN_END:
                    end = answers.scan_end(frame.payload, len(trees))
                    if end.scan != number:
                        raise BrokenAnswer("an answer to another question")
                    return self._known.complete(end)
                case _:
                    self._refused(frame)

    def _refused(self, frame: Frame) -> None:
        if frame.letter is not Letter.REFUSED:
            raise BrokenAnswer("frames in an order that makes no sense")
        kind, why = answers.refusal(frame.payload)
        target = self._connection.target
        if kind == "entries":
            raise HostQuarantined(
                f"{target}: more than {self._limits.entries} entries below its roots",
                hint="name what is to be pruned, or narrower roots",
            )
        raise LinkLost(f"{target}: the box can't look at its trees ({quoted(why)})")

    async def facts(self) -> BoxFacts:
        """See `Box.facts`."""
        async with self._conversation() as process:
            roots = [tree.root for tree in self._watch.trees[:1]]
            number = self._ask(process, {"do": "facts", "roots": roots})
            frame = await process.frame()
            if frame.letter is not Letter.FACTS or answers.number_of(frame.payload) != number:
                raise BrokenAnswer("frames in an order that makes no sense")
            return answers.facts(frame.payload)

    def reading(self, requests: Sequence[ReadRequest]) -> AbstractAsyncContextManager[AsyncIterator[ReadEvent]]:
        """See `Reader.reading`."""
        return self._reader.reading(requests)

    def close(self) -> None:
        """End the programs on the box."""
        self._forget()
        self._reader.close()
