"""Downloads one large file to staging: in one piece if one connection suffices, else in segments over several.

A segment counts once the host reported the planned version before and after reading it, and a matching hash. A lane
that is lost returns its segment to the others; the error of the last lane fails the download. The staged file is never
discarded or closed here: its owner does that when all writing has ended.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Callable

import anyio
import anyio.to_thread

from harvestd.convention.scan.completeness import HEAD_BYTES
from harvestd.errors import HarvestError, Retry, unwrapped
from harvestd.harvest.budgets import Bandwidth
from harvestd.harvest.sync import Broadcast
from harvestd.harvest.transfer.pool import ConnectionPool, PooledConnection, Segment, Segments
from harvestd.harvest.transfer.publish import inspected, reason_to_doubt
from harvestd.harvest.transfer.reading import DoubleBuffer, spooling
from harvestd.planning.plan import FetchFile
from harvestd.remote.api import Chunk, Closed, Failed, Opened, Reader, ReadEvent, ReadRequest
from harvestd.store.staging import Staged

_TIMEOUT = 0.5
"""Seconds after which received bytes are written and counted, however few they are."""
_TAIL = 1024 * 1024
"""Bytes at the end of the staged file that are compared if the host can't hash and would have to send everything."""
_INSTANT = 0.001
"""The shortest duration in seconds, to avoid a division by zero."""


class ReadMismatch(HarvestError):
    """What was read must not be published; the text begins with the file's name and gives the reason."""


class RestartDownload(ReadMismatch):
    """What was read must not be published, and the staged bytes are of no use to the next attempt."""


class SegmentedDownload:
    """Downloads one file to staging, from the present end of `staged` on."""

    def __init__(
        self,
        file: FetchFile,
        staged: Staged,
        lanes: ConnectionPool,
        bandwidth: Bandwidth,
        on_received: Callable[[int], None],
    ) -> None:
        """`on_received` is called with the number of bytes received, as they arrive."""
        self._file = file
        self._staged = staged
        self._lanes = lanes
        self._bandwidth = bandwidth
        self._on_received = on_received
        self._segments = Segments(0, 0, 1)
        self._proven = 0
        """The host has verified the staged bytes up to here."""
        self._prefix = anyio.Lock()
        """Held while bytes are moved into the prefix, and while the position of a next write is determined."""
        self._working = 0
        self._waiting: set[anyio.CancelScope] = set()
        self.moved = Broadcast()
        """Rung whenever there are more bytes than before."""

    async def prove(self) -> bool:
        """Return whether the staged bytes are the beginning of the host's file; raise as `run` does."""
        async with self._lanes.acquire() as lane:
            return await self._agrees(lane.reader)

    async def content_hash(self) -> str | None:
        """Return the host's SHA-256 of the whole file, None if the host can't hash; raise as `run` does."""
        size = self._file.source.version.size
        async with self._lanes.acquire() as lane:
            return await self._hashed(lane.reader, 0, size) if lane.reader.hashes_there else None

    async def run(self) -> None:
        """Return when the whole file is staged.

        Raise `ReadMismatch` if it is not what was planned, `Retry` when all links are lost, `DiskFull` and
        `HaltedForSafety` when the disk fails.
        """
        source = self._file.source
        self._proven = self._staged.size
        self._working = self._lanes.worthwhile(source.version.size - self._staged.size)
        self._segments = Segments(self._staged.size, source.version.size, self._working)
        with unwrapped():
            async with anyio.create_task_group() as tasks:
                for _ in range(self._working):
                    tasks.start_soon(self._work)
                await self._take_in()
                for scope in self._waiting:
                    scope.cancel()
        doubt = reason_to_doubt(self._file, source.version, source.version, self._staged.read(0, HEAD_BYTES))
        doubt = doubt or await inspected(self._file, self._staged)
        if doubt is not None:
            raise ReadMismatch(f"{source.path.name}: {doubt}")

    async def _take_in(self) -> None:
        """Extend the prefix by the segments that were written beyond it, until it is the whole file."""
        while True:
            async with self._prefix:
                end = self._segments.contiguous
                if end > self._staged.size:
                    await anyio.to_thread.run_sync(self._staged.take_in, end)
            self._proven = max(self._proven, min(end, self._segments.verified_end))
            if end < self._segments.contiguous:
                continue
            if self._segments.all_here:
                return
            await self.moved.rung()

    async def _work(self) -> None:
        try:
            with anyio.CancelScope() as waiting:
                self._waiting.add(waiting)
                async with self._lanes.acquire() as lane:
                    self._waiting.discard(waiting)
                    await self._carry(lane)
        except Retry:
            # The failure of a connection that is no longer needed is ignored.
            if self._working == 1 and not self._segments.all_here:
                raise
        finally:
            self._working -= 1

    async def _carry(self, lane: PooledConnection) -> None:
        """Fetch segments until all are here: a segment that another lane returns must find a lane that takes it."""
        rate: float | None = None
        while not self._segments.all_here:
            segment = self._segments.take(rate)
            if segment is None:
                await self.moved.rung()
                continue
            try:
                seconds = await self._bring(segment, lane)
            except BaseException:
                self._segments.give_back(segment)
                self.moved.ring()
                raise
            rate = (segment.end - segment.start) / seconds
            segment.here = True
            self.moved.ring()

    async def _bring(self, segment: Segment, lane: PooledConnection) -> float:
        """Fetch one segment; return the seconds from the host's first answer to its last, for the rate."""
        source = self._file.source
        async with self._prefix:
            # Bytes of an earlier attempt may be part of the prefix by now, and must not be written again.
            segment.start = segment.at = min(segment.end, max(segment.start, self._staged.size))
        if segment.start == self._staged.size > self._proven and not await self._agrees(lane.reader):
            raise self._useless("the box does not have what came of it before")
        landing = _Landing(self._staged, segment)
        length = segment.end - segment.start
        request = ReadRequest(source.tree, source.path, segment.start, length)
        async with (
            spooling(landing.write, self.moved.ring, min(lane.buffer, length)) as spool,
            lane.reader.reading([request]) as events,
        ):
            opened, closed, seconds = await self._receive(events, spool)
        if not opened.version == closed.version == source.version:
            raise self._useless("it changed on the box while it was read")
        if segment.at != segment.end:
            raise self._useless("the box sent another number of bytes than the file has")
        if closed.sha256 is not None and closed.sha256 != landing.hexdigest:
            raise self._useless("its hash is not the one that the box told")
        return max(seconds, _INSTANT)

    async def _receive(self, events: AsyncIterator[ReadEvent], spool: DoubleBuffer) -> tuple[Opened, Closed, float]:
        began = counted = time.monotonic()
        opened: Opened | None = None
        fresh = 0
        async for event in events:
            match event:
                case Chunk(data):
                    fresh += len(data)
                    # Pieces are small and many, so this work is done once for many of them.
                    if not spool.take(data):
                        await spool.add(data)
                    elif time.monotonic() - counted < _TIMEOUT:
                        continue
                    else:
                        await spool.flush()
                    await self._count(fresh)
                    fresh, counted = 0, time.monotonic()
                case Opened():
                    opened, began = event, time.monotonic()
                case Closed() if opened is not None:
                    await self._count(fresh)
                    return opened, event, time.monotonic() - began
                case Failed():
                    raise self._failed(event)
                case _:
                    break
        raise self._useless("the box gave no answer that makes sense")

    async def _count(self, size: int) -> None:
        self._on_received(size)
        await self._bandwidth.spend(size)

    async def _agrees(self, reader: Reader) -> bool:
        """Return whether the host's file begins with the staged bytes, which then count as verified.

        If the host can't hash, the version and the end of the staged bytes decide: otherwise everything would be sent
        again.
        """
        size = self._staged.size
        start = 0 if reader.hashes_there else max(0, size - _TAIL)
        reported = await self._hashed(reader, start, size)
        self._proven = size
        return reported == (self._staged.hexdigest if start == 0 else self._hash_of_end(start))

    async def _hashed(self, reader: Reader, start: int, size: int) -> str | None:
        """Return the SHA-256 of the host's file from `start` to `size`, if it still has the planned version."""
        source = self._file.source
        opened: Opened | None = None
        closed: Closed | None = None
        async with reader.reading([ReadRequest(source.tree, source.path, size, 0, start)]) as events:
            async for event in events:
                match event:
                    case Opened():
                        opened = event
                    case Closed():
                        closed = event
                    case Failed():
                        raise self._failed(event)
                    case _:
                        pass
        if opened is None or closed is None or not opened.version == closed.version == source.version:
            raise self._useless("it changed on the box before it was read")
        return opened.verified

    def _hash_of_end(self, start: int) -> str:
        return hashlib.sha256(self._staged.read(start, self._staged.size - start)).hexdigest()

    def _failed(self, event: Failed) -> ReadMismatch:
        return ReadMismatch(f"{self._file.source.path.name}: {event.reason}")

    def _useless(self, why: str) -> RestartDownload:
        return RestartDownload(f"{self._file.source.path.name}: {why}")


class _Landing:
    """The destination of a segment's bytes, and their hash; for worker threads.

    Bytes are appended to the prefix if the segment continues it, and are written beyond it otherwise.
    """

    def __init__(self, staged: Staged, segment: Segment) -> None:
        self._staged = staged
        self._segment = segment
        self._continues = segment.start == staged.size
        # Hashing costs as much as decrypting: for a segment that is the whole prefix, the prefix's own hash is used.
        self._hash = None if self._continues and segment.start == 0 else hashlib.sha256()

    @property
    def hexdigest(self) -> str:
        """The SHA-256 of the bytes that were written here."""
        return self._staged.hexdigest if self._hash is None else self._hash.hexdigest()

    def write(self, data: memoryview) -> None:
        """Write the next bytes; raise as `Staged.write` does."""
        if self._continues:
            self._staged.write(data)
        else:
            self._staged.put(data, self._segment.at)
        if self._hash is not None:
            self._hash.update(data)
        self._segment.at += len(data)
