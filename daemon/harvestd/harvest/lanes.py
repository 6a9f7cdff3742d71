"""The bulk connections of one host: opened when all are in use, lent to one transfer at a time.

A connection on which anything failed is closed and never lent again; those that nobody needs are closed too, since
each costs the box a process.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
from anyio.abc import TaskGroup, TaskStatus

from harvestd.harvest.house import House
from harvestd.harvest.pins import Pins
from harvestd.inventory.provider import Host
from harvestd.remote.box import Box, Reader
from harvestd.remote.connecting import Connection, connect
from harvestd.remote.opening import open_reader

WINDOW = 16 * 1024 * 1024
_SMALLEST_WINDOW = 1024 * 1024
"""Bytes in flight on a bulk connection; between these the memory budget decides."""


@dataclass(eq=False)
class _Lane:
    reader: Reader
    over: anyio.Event = field(default_factory=anyio.Event)
    """Set when the connection is lost, or is to be closed."""


class Lanes:
    """Lends readers; `tasks` is where their connections live, and must outlive every loan."""

    def __init__(self, host: Host, house: House, box: Box, tasks: TaskGroup) -> None:
        self._host = host
        self._house = house
        self._box = box
        self._tasks = tasks
        self._idle: list[_Lane] = []
        self._places = anyio.CapacityLimiter(house.settings.limits.bulk_connections_per_host)

    @asynccontextmanager
    async def lent(self) -> AsyncIterator[Reader]:
        """Lend a reader on a connection of its own. Raises `Retry` and `HostQuarantined` where none can be opened."""
        async with self._places:
            lane = self._idle.pop() if self._idle else await self._opened()
            try:
                yield lane.reader
            except BaseException:
                lane.over.set()
                raise
            if not lane.over.is_set():
                self._idle.append(lane)

    def release(self) -> None:
        """Close what is not lent."""
        for lane in self._idle:
            lane.over.set()
        self._idle.clear()

    @property
    def _window(self) -> int:
        """Give a connection's share, should all hosts use all of theirs: a paused channel holds its window."""
        settings = self._house.settings
        connections = settings.limits.bulk_connections_per_host * max(2, len(settings.hosts))
        return max(_SMALLEST_WINDOW, min(WINDOW, self._house.memory.total // (2 * connections)))

    async def _opened(self) -> _Lane:
        lane: _Lane = await self._tasks.start(self._keep)
        return lane

    async def _keep(self, *, task_status: TaskStatus[_Lane]) -> None:
        house = self._house
        async with AsyncExitStack() as stack:
            async with house.connecting:
                pins = Pins(self._host, house.catalogue)
                connecting = connect(house.target_of(self._host), pins, window=self._window)
                connection = await stack.enter_async_context(connecting)
            lane = _Lane(await stack.enter_async_context(open_reader(connection, self._box, house.limits)))
            task_status.started(lane)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._notice_end, connection, lane)
                await lane.over.wait()
                tasks.cancel_scope.cancel()

    async def _notice_end(self, connection: Connection, lane: _Lane) -> None:
        await connection.wait_closed()
        lane.over.set()
        if lane in self._idle:
            self._idle.remove(lane)
