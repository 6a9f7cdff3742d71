"""The bulk connections of one host: opened when all are in use, lent to one transfer at a time.

A connection on which anything failed is closed and never lent again; those that nobody needs are closed too, since
each costs the box a process. What a lane may hold in memory is taken from the budget of all hosts' lanes for as long as
it is open, so the sum is bounded whatever the number of hosts; where nothing is left, the next one waits its turn.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from math import ceil

import anyio
from anyio.abc import TaskGroup, TaskStatus

from harvestd.convention.values import Immutable
from harvestd.harvest.budgets import MemoryBudget
from harvestd.harvest.segments import LAST
from harvestd.remote.box import Reader

MIB = 1024 * 1024
_WINDOWS = (16 * MIB, 8 * MIB, 4 * MIB, 2 * MIB, MIB, MIB // 2)
"""Bytes in flight on a connection: the most that is of use with stock TCP buffers, down to the least that works."""
_ENOUGH = 16
"""A lane takes as much as so many lanes could have of what is left: the first ones get more, late ones still some."""
_BUFFER = 2 * MIB
"""Bytes that are gathered at most for one write in a worker thread; two such buffers a lane."""
_ROUND_TRIP_EACH = 0.008
"""Seconds of round trip that one connection bridges: stock TCP has 4 MiB on the way, which is 500 MB/s over 8 ms."""


class Line(Immutable):
    """A reader on a connection of its own."""

    reader: Reader
    wait_closed: Callable[[], Awaitable[None]]
    """Returns when the connection has ended, from whichever side."""


Opening = Callable[[int], AbstractAsyncContextManager[Line]]
"""Opens a connection with so many bytes in flight; raises `Retry` and `HostQuarantined`."""


@dataclass(eq=False)
class Lane:
    """A connection for bulk."""

    reader: Reader
    buffer: int
    """Bytes of each of two buffers that its user may fill."""
    over: anyio.Event = field(default_factory=anyio.Event)
    """Set when the connection is lost, or is to be closed."""


class Lanes:
    """Lends lanes; `tasks` is where their connections live, and must outlive every loan."""

    def __init__(
        self, most: int, budget: MemoryBudget, opening: Opening, tasks: TaskGroup, round_trip: float | None = None
    ) -> None:
        """Open `most` lanes at most; `budget` is that of all hosts' lanes, `round_trip` in seconds if known."""
        self._most = most
        self._budget = budget
        self._opening = opening
        self._tasks = tasks
        self._idle: list[Lane] = []
        self._places = anyio.Semaphore(most)
        self._round_trip = round_trip

    def worthwhile(self, size: int) -> int:
        """Give how many connections `size` bytes are worth: what it takes to fill a fast line over this round trip.

        Where there is next to none one connection fills any line, and each further one only costs both sides CPU;
        far away each is held to what TCP keeps on its way. One, too, while many hosts share the memory.
        """
        if not self._round_trip or not self._budget.has(self._budget.total // 2):
            return 1
        return min(self._most, 1 + size // LAST, ceil(self._round_trip / _ROUND_TRIP_EACH))

    @asynccontextmanager
    async def lent(self, placed: Callable[[], None] = lambda: None) -> AsyncIterator[Lane]:
        """Lend a lane on a connection of its own. Raises `Retry` and `HostQuarantined` where none can be opened.

        `placed` is called when it is this one's turn, before a connection is made.
        """
        async with self._places:
            placed()
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
                # Another host waits for the memory that these hold.
                self.release()

    def release(self) -> None:
        """Close what is not lent."""
        for lane in self._idle:
            lane.over.set()
        self._idle.clear()

    async def _opened(self) -> Lane:
        lane: Lane = await self._tasks.start(self._keep)
        return lane

    async def _keep(self, *, task_status: TaskStatus[Lane]) -> None:
        window = window_within(self._budget)
        async with self._budget.hold(_cost(window)), self._opening(window) as line:
            lane = Lane(line.reader, _buffer(window))
            task_status.started(lane)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._notice_end, line, lane)
                await lane.over.wait()
                tasks.cancel_scope.cancel()

    async def _notice_end(self, line: Line, lane: Lane) -> None:
        await line.wait_closed()
        lane.over.set()
        if lane in self._idle:
            self._idle.remove(lane)


def window_within(budget: MemoryBudget) -> int:
    """Give the bytes in flight that one more lane may have, as many as leave enough for those to come."""
    fitting = (window for window in _WINDOWS if _ENOUGH * _cost(window) <= budget.total)
    return next((window for window in fitting if budget.has(_ENOUGH * _cost(window))), _WINDOWS[-1])


def _buffer(window: int) -> int:
    return min(_BUFFER, window // 2)


def _cost(window: int) -> int:
    """Give what a lane holds at most: a paused channel its whole window, and the two buffers that are being written."""
    return window + 2 * _buffer(window)
