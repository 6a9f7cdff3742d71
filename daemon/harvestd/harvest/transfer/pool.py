"""The bulk connections of one host: opened when all are in use, lent to one transfer at a time.

A connection on which anything failed is closed and never lent again; those that nobody needs are closed too, since
each costs the box a process. What a lane may hold in memory is taken from the budget of all hosts' lanes for as long as
it is open, so the sum is bounded whatever the number of hosts; where nothing is left, the next one waits its turn.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from math import ceil

import anyio
from anyio.abc import TaskGroup

from harvestd.convention.structs import Immutable
from harvestd.errors import HostQuarantined, Retry
from harvestd.harvest.budgets import MemoryBudget
from harvestd.harvest.transfer.segments import LAST
from harvestd.remote.api import Reader

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


@dataclass(eq=False)
class _Opened:
    """A connection that is being made."""

    done: anyio.Event = field(default_factory=anyio.Event)
    """Set when it is open, or can't be opened."""
    lane: Lane | None = None
    error: Retry | HostQuarantined | None = None


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
        self._left: list[_Opened] = []
        """Connections that are being made, and that no loan waits for any more."""
        self._is_released = False
        """Whether nothing is lent, and what opens late is to be closed."""
        self._places = anyio.Semaphore(most)
        self._round_trip = round_trip

    def worthwhile(self, size: int) -> int:
        """Return how many connections `size` bytes are worth: what it takes to fill a fast line over this round trip.

        Where there is next to none one connection fills any line, and each further one only costs both sides CPU;
        far away each is held to what TCP keeps on its way. One, too, while many hosts share the memory.
        """
        if not self._round_trip or not self._budget.has(self._budget.total // 2):
            return 1
        return min(self._most, 1 + size // LAST, ceil(self._round_trip / _ROUND_TRIP_EACH))

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Lane]:
        """Lend a lane on a connection of its own. Raises `Retry` and `HostQuarantined` where none can be opened.

        A connection that is being made goes on when it is not waited for any more: the next loan can use it.
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
                # Another host waits for the memory that these hold.
                self._close_idle()

    def release(self) -> None:
        """Close what is not lent, and later what is still being made, unless it is lent by then."""
        self._is_released = True
        self._close_idle()

    def _close_idle(self) -> None:
        for lane in self._idle:
            lane.over.set()
        self._idle.clear()

    async def _opened(self) -> Lane:
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
        """Keep what is being opened, or is open by now, for the next loan."""
        if not opened.done.is_set():
            self._left.append(opened)
        elif opened.lane is not None:
            self._idle.append(opened.lane)

    async def _keep(self, opened: _Opened) -> None:
        """Open a connection, and keep it until it ends; whatever becomes of the attempt is noted in `opened`."""
        window = window_within(self._budget)
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._budget.hold(_cost(window)))
                line = await stack.enter_async_context(self._opening(window))
            except (Retry, HostQuarantined) as e:
                self._note(opened, None, e)
                return
            lane = Lane(line.reader, _buffer(window))
            self._note(opened, lane, None)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._notice_end, line, lane)
                await lane.over.wait()
                tasks.cancel_scope.cancel()

    def _note(self, opened: _Opened, lane: Lane | None, error: Retry | HostQuarantined | None) -> None:
        opened.lane, opened.error = lane, error
        opened.done.set()
        if opened in self._left:
            self._left.remove(opened)
            if lane is not None:
                self._idle.append(lane)
                if self._is_released or not self._budget.has(0):
                    self._close_idle()

    async def _notice_end(self, line: Line, lane: Lane) -> None:
        await line.wait_closed()
        lane.over.set()
        if lane in self._idle:
            self._idle.remove(lane)


def window_within(budget: MemoryBudget) -> int:
    """Return the bytes in flight that one more lane may have, as many as leave enough for those to come."""
    fitting = (window for window in _WINDOWS if _ENOUGH * _cost(window) <= budget.total)
    return next((window for window in fitting if budget.has(_ENOUGH * _cost(window))), _WINDOWS[-1])


def _buffer(window: int) -> int:
    return min(_BUFFER, window // 2)


def _cost(window: int) -> int:
    """Return what a lane holds at most: a paused channel its whole window, and two buffers that are being written."""
    return window + 2 * _buffer(window)
