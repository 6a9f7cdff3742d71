"""The pool of a host's bulk connections: one is opened when all are in use, and each serves one transfer at a time.

A connection on which anything failed is closed and never used again. Connections that are not needed are closed too,
since each costs the host a process. The memory that a lane may need is reserved in the budget of all hosts' lanes for
as long as it is open, so the sum is bounded whatever the number of hosts; if nothing is left, the next lane waits.

A queue of a large file's segments, shared by several lanes; pure. Segments are handed out in ascending order, so that
the part without a gap, which is all that a crash leaves, grows steadily. A segment that failed is handed out again
before any other. Between two segments a lane is idle for a round trip, so they are large; but no larger than what a
lane fetches in a short time, and towards the end they shrink, so that all lanes end together.
"""

import time
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from math import ceil
from typing import Final

import anyio
from anyio.abc import TaskGroup

from harvestd.convention.structs import Immutable
from harvestd.errors import HostQuarantined, Retry
from harvestd.harvest.budgets import MemoryBudget
from harvestd.remote.api import Reader

SECONDS = 1.0
"""How long a segment should take its lane."""
FIRST = 2 * 1024 * 1024
"""Bytes of a lane's first segment, which measures its rate."""
SMALLEST = 1024 * 1024
LARGEST = 32 * 1024 * 1024
"""Bytes of later segments."""
LAST = 8 * 1024 * 1024
"""Bytes: towards the end segments do not shrink below this."""


@dataclass(eq=False, slots=True)
class Segment:
    """A part of a file, in transfer or complete."""

    start: int
    end: int
    """The part is from `start` up to, but without, `end`."""
    at: int = field(init=False)
    """The bytes up to here are written."""
    here: bool = field(default=False, init=False)
    """Whether all of it is written and verified."""

    def __post_init__(self) -> None:
        self.at = self.start


class Segments:
    """The parts of one file that are not here yet."""

    def __init__(self, start: int, end: int, lanes: int) -> None:
        """Cover the bytes from `start` up to `end`, for `lanes` lanes at once.

        A single lane gets them all as one segment.
        """
        self._begun: list[Segment] = []
        """By position in the file; those that are verified without a gap before them are removed."""
        self._again: list[Segment] = []
        self._believed = self._next = start
        self._end = end
        self._lanes = lanes

    @property
    def all_begun(self) -> bool:
        """Whether nothing is left to hand out at the moment."""
        return not self._again and self._next >= self._end

    @property
    def all_here(self) -> bool:
        """Whether everything is written and verified."""
        return self.all_begun and all(each.here for each in self._begun)

    def take(self, rate: float | None) -> Segment | None:
        """Return the next segment for a lane that fetches `rate` bytes per second (None: unknown), if there is one."""
        if self._again:
            return self._again.pop(0)
        if self._next >= self._end:
            return None
        segment = Segment(self._next, self._next + self._length(rate))
        self._next = segment.end
        self._begun.append(segment)
        return segment

    def _length(self, rate: float | None) -> int:
        left = self._end - self._next
        if self._lanes == 1:
            return left
        length = FIRST if rate is None else max(SMALLEST, min(LARGEST, int(rate * SECONDS)))
        return min(left, length, max(LAST, left // self._lanes))

    def give_back(self, segment: Segment) -> None:
        """Return `segment`, which failed, to the queue for another lane."""
        segment.at = segment.start
        self._again.append(segment)
        self._again.sort(key=lambda each: each.start)

    @property
    def verified_end(self) -> int:
        """The end of the part in which every segment is verified."""
        while self._begun and self._begun[0].here:
            self._believed = self._begun.pop(0).end
        return self._believed

    @property
    def contiguous(self) -> int:
        """The end of the part that is written without a gap; its last segment may not be verified yet."""
        return max(self.verified_end, self._begun[0].at if self._begun else 0)


MIB = 1024 * 1024
_WINDOWS = (16 * MIB, 8 * MIB, 4 * MIB, 2 * MIB, MIB, MIB // 2)
"""Bytes in flight on a connection: from the most that is of use with stock TCP buffers down to the least that works."""
_ENOUGH = 16
"""A lane takes a share of what is left: as much as this many lanes could have.

Early lanes get more, late ones still some.
"""
_BUFFER = 2 * MIB
"""The most bytes that are gathered for one write in a worker thread; two such buffers per lane."""
ROUND_TRIP_EACH = 0.008
"""Seconds of round trip that one connection can bridge: stock TCP has 4 MiB in flight, which is 500 MB/s at 8 ms."""


class BulkConnection(Immutable):
    """A reader on a separate connection."""

    reader: Reader
    wait_closed: Callable[[], Awaitable[None]]
    """Returns when the connection was closed by either side."""


Opening = Callable[[int], AbstractAsyncContextManager[BulkConnection]]
"""Opens a connection with this many bytes in flight; raises `Retry` and `HostQuarantined`."""


@dataclass(eq=False)
class PooledConnection:
    """A bulk connection."""

    reader: Reader
    buffer: int
    """Bytes of each of the two buffers that its user may fill."""
    over: anyio.Event = field(default_factory=anyio.Event)
    """Set when the connection is lost, or is to be closed."""


@dataclass(eq=False)
class _Opened:
    """A connection that is being opened."""

    done: anyio.Event = field(default_factory=anyio.Event)
    """Set when it is open, or can't be opened."""
    lane: PooledConnection | None = None
    error: Retry | HostQuarantined | None = None


class ConnectionPool:
    """Lends lanes; their connections run in `tasks`, which must outlive every loan."""

    def __init__(
        self, most: int, budget: MemoryBudget, opening: Opening, tasks: TaskGroup, round_trip: float | None = None
    ) -> None:
        """`most`: the limit of open lanes; `budget`: shared by all hosts' lanes; `round_trip`: seconds, if known."""
        self._most = most
        self._budget = budget
        self._opening = opening
        self._tasks = tasks
        self._idle: list[PooledConnection] = []
        self._left: list[_Opened] = []
        """Connections that are being opened, but that no loan waits for any more."""
        self._is_released = False
        """Whether nothing is lent, so that a connection that opens late is to be closed."""
        self._places = anyio.Semaphore(most)
        self._round_trip = round_trip

    def worthwhile(self, size: int) -> int:
        """Return how many connections are worth opening for `size` bytes: enough for a fast line at this round trip.

        Without a noticeable round trip one connection fills any line, and each further one only costs CPU on both
        sides. To a distant host each is limited to the bytes that TCP keeps in flight. Also one while many hosts share
        the memory.
        """
        if not self._round_trip or not self._budget.has(self._budget.total // 2):
            return 1
        return min(self._most, 1 + size // LAST, ceil(self._round_trip / ROUND_TRIP_EACH))

    @asynccontextmanager
    async def acquire(self) -> AsyncIterator[PooledConnection]:
        """Lend a lane on a separate connection. Raise `Retry` and `HostQuarantined` if none can be opened.

        A connection that is being opened continues after its loan is cancelled: the next loan can use it.
        """
        async with self._places:
            lane = self._idle.pop() if self._idle else await self._opened()
            try:
                yield lane
            except BaseException:
                lane.over.set()
                raise
            if lane.over.is_set():
                return
            self._idle.append(lane)
            if not self._budget.has(0):
                # Another host waits for the memory that the idle lanes hold.
                self._close_idle()

    def release(self) -> None:
        """Close idle lanes, and later those that are still being opened, unless they are lent by then."""
        self._is_released = True
        self._close_idle()

    def _close_idle(self) -> None:
        for lane in self._idle:
            lane.over.set()
        self._idle.clear()

    async def _opened(self) -> PooledConnection:
        if self._left:
            opened = self._left.pop()
        else:
            opened = _Opened()
            self._tasks.start_soon(self._keep, opened)
        try:
            await opened.done.wait()
        except BaseException:
            self._leave(opened)
            raise
        if opened.error is not None:
            raise opened.error
        if opened.lane is None:
            raise RuntimeError("a connection was neither made nor refused")
        return opened.lane

    def _leave(self, opened: _Opened) -> None:
        """Keep a connection that is being opened, or that is open by now, for the next loan."""
        if not opened.done.is_set():
            self._left.append(opened)
        elif opened.lane is not None:
            self._idle.append(opened.lane)

    async def _keep(self, opened: _Opened) -> None:
        """Open a connection and keep it until it ends; the result of the attempt is recorded in `opened`."""
        window = window_within(self._budget)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._budget.hold(_cost(window)))
                line = await stack.enter_async_context(self._opening(window))
            except (Retry, HostQuarantined) as e:
                self._note(opened, None, e)
                return
            lane = PooledConnection(line.reader, _buffer(window))
            self._note(opened, lane, None)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._notice_end, line, lane)
                await lane.over.wait()
                tasks.cancel_scope.cancel()

    def _note(self, opened: _Opened, lane: PooledConnection | None, error: Retry | HostQuarantined | None) -> None:
        opened.lane, opened.error = lane, error
        opened.done.set()
        if opened in self._left:
            self._left.remove(opened)
            if lane is not None:
                self._idle.append(lane)
                if self._is_released or not self._budget.has(0):
                    self._close_idle()

    async def _notice_end(self, line: BulkConnection, lane: PooledConnection) -> None:
        await line.wait_closed()
        lane.over.set()
        if lane in self._idle:
            self._idle.remove(lane)


def window_within(budget: MemoryBudget) -> int:
    """Return the bytes in flight for one more lane: as many as leave enough for later ones."""
    fitting = (window for window in _WINDOWS if _ENOUGH * _cost(window) <= budget.total)
    return next((window for window in fitting if budget.has(_ENOUGH * _cost(window))), _WINDOWS[-1])


def _buffer(window: int) -> int:
    return min(_BUFFER, window // 2)


def _cost(window: int) -> int:
    """Return the most bytes that a lane holds: the window of a paused channel, and two buffers being written."""
    return window + 2 * _buffer(window)


_WINDOW: Final = 10.0
"""Seconds over which the rate is averaged."""
_STEP: Final = 0.5
"""Seconds between two samples."""


class TransferProgress:
    """Progress of one group of files, such as a checkpoint."""

    def __init__(
        self, host: str, place: str, size: int, here: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with `here` of `size` bytes received before; `clock` returns seconds."""
        self.host = host
        self.place = place
        """The remote path; escaped where it is displayed."""
        self.size = size
        self.moved = here
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque([(clock(), here)], maxlen=int(_WINDOW / _STEP) + 1)

    def add(self, size: int) -> None:
        """Count `size` more bytes as received."""
        now = self._clock()
        if now - self._marks[-1][0] >= _STEP:
            self._marks.append((now, self.moved))
        self.moved += size

    @property
    def rate(self) -> float | None:
        """The recent rate in bytes per second; None right after the start."""
        now = self._clock()
        marks = [mark for mark in self._marks if now - mark[0] <= _WINDOW] or [self._marks[-1]]
        since, before = marks[0]
        return (self.moved - before) / (now - since) if now - since >= _STEP else None

    @property
    def seconds_left(self) -> float | None:
        """The seconds that the rest takes at this rate; None if unknown."""
        rate = self.rate
        return max(0, self.size - self.moved) / rate if rate else None


class ActiveTransfers:
    """All large transfers in progress, over all hosts."""

    def __init__(self) -> None:
        self._transfers: list[TransferProgress] = []

    @contextmanager
    def of(self, transfer: TransferProgress) -> Iterator[None]:
        """Include `transfer` for the body."""
        self._transfers.append(transfer)
        try:
            yield
        finally:
            self._transfers.remove(transfer)

    def all(self) -> tuple[TransferProgress, ...]:
        """Return the transfers in progress, the oldest first."""
        return tuple(self._transfers)
