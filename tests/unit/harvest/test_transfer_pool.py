"""Lanes: how many, how much memory each may hold, and that nobody keeps what another one waits for."""

from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from harvestd.errors import Retry
from harvestd.harvest.budgets import MemoryBudget
from harvestd.harvest.transfer.pool import BulkConnection, ConnectionPool, window_within
from harvestd.remote.api import ReadEvent, ReadRequest
from support.waiting import until

pytestmark = pytest.mark.anyio

MIB = 1024 * 1024


class Nobody:
    """A reader of nothing."""

    hashes_there = True

    @asynccontextmanager
    async def reading(self, requests: Sequence[ReadRequest]) -> AsyncIterator[AsyncIterator[ReadEvent]]:
        """Answer an empty list of requests."""
        assert not requests
        yield _nothing()


async def _nothing() -> AsyncIterator[ReadEvent]:
    none: tuple[ReadEvent, ...] = ()
    for event in none:
        yield event


class Lines:
    """Opens lines to nowhere and counts them."""

    def __init__(self) -> None:
        self.open = 0
        self.windows: list[int] = []
        self.ended = anyio.Event()
        self.answered = anyio.Event()
        """Set when the other side answers."""
        self.answered.set()
        self.error: Exception | None = None
        """What comes instead of a connection."""

    @asynccontextmanager
    async def opening(self, window: int) -> AsyncIterator[BulkConnection]:
        """Open one."""
        self.windows.append(window)
        await self.answered.wait()
        if self.error is not None:
            raise self.error
        self.open += 1
        try:
            yield BulkConnection(Nobody(), self.ended.wait)
        finally:
            self.open -= 1


async def test_lane_is_kept_for_the_next_loan() -> None:
    """A loan that ended well leaves its connection for the next one; `release` closes it."""
    lines = Lines()
    async with anyio.create_task_group() as tasks:
        lanes = ConnectionPool(4, MemoryBudget(256 * MIB), lines.opening, tasks)
        for _ in range(3):
            async with lanes.acquire():
                assert lines.open == 1
        assert len(lines.windows) == 1
        lanes.release()
        await until(lambda: lines.open == 0)


async def test_lane_on_which_something_failed_is_never_lent_again() -> None:
    """Neither after an error of its user nor after its connection ended."""
    lines = Lines()
    async with anyio.create_task_group() as tasks:
        lanes = ConnectionPool(4, MemoryBudget(256 * MIB), lines.opening, tasks)
        with pytest.raises(Retry):
            async with lanes.acquire():
                raise Retry("lost")
        await until(lambda: lines.open == 0)
        async with lanes.acquire():
            pass
        assert len(lines.windows) == 2
        lines.ended.set()
        await until(lambda: lines.open == 0)


async def test_connection_that_is_not_waited_for_any_more_serves_the_next_loan() -> None:
    """Giving up waiting ends no connection that is being made, and no second one is made beside it."""
    lines = Lines()
    lines.answered = anyio.Event()
    async with anyio.create_task_group() as tasks:
        lanes = ConnectionPool(1, MemoryBudget(256 * MIB), lines.opening, tasks)
        with anyio.move_on_after(0.01):
            async with lanes.acquire():
                raise AssertionError
        async with anyio.create_task_group() as users:

            async def use() -> None:
                async with lanes.acquire():
                    pass

            users.start_soon(use)
            await anyio.wait_all_tasks_blocked()
            lines.answered.set()
        assert len(lines.windows) == 1
        with anyio.move_on_after(0.01):
            async with lanes.acquire():
                await anyio.sleep_forever()
        lanes.release()
        await until(lambda: lines.open == 0)


@pytest.mark.parametrize("error", [None, Retry("no answer")])
async def test_connection_that_comes_late_is_closed_where_nothing_needs_it(error: Retry | None) -> None:
    """Neither a late connection nor a late failure outlives the use of all lanes."""
    lines = Lines()
    lines.answered, lines.error = anyio.Event(), error
    async with anyio.create_task_group() as tasks:
        lanes = ConnectionPool(4, MemoryBudget(256 * MIB), lines.opening, tasks)
        with anyio.move_on_after(0.01):
            async with lanes.acquire():
                raise AssertionError
        lanes.release()
        lines.answered.set()
        await until(lambda: lines.open == 0)
    assert len(lines.windows) == 1


async def test_refused_connection_is_an_error_of_the_loan() -> None:
    """The next loan tries anew."""
    lines = Lines()
    lines.error = Retry("no answer")
    async with anyio.create_task_group() as tasks:
        lanes = ConnectionPool(4, MemoryBudget(256 * MIB), lines.opening, tasks)
        with pytest.raises(Retry):
            async with lanes.acquire():
                raise AssertionError
        lines.error = None
        async with lanes.acquire():
            assert lines.open == 1
        lanes.release()


@pytest.mark.parametrize(("round_trip", "lanes"), [(None, 1), (0.0, 1), (0.001, 1), (0.012, 2), (0.1, 4), (3.0, 4)])
async def test_number_of_lanes_follows_the_distance(round_trip: float | None, lanes: int) -> None:
    """Next door one connection does; far away as many as the operator allows; a small file is worth no second one."""
    async with anyio.create_task_group() as tasks:
        several = ConnectionPool(4, MemoryBudget(256 * MIB), Lines().opening, tasks, round_trip)
        assert several.worthwhile(MIB) == 1
        assert several.worthwhile(100 * MIB) == lanes


async def test_memory_is_bounded_whatever_the_number_of_hosts() -> None:
    """Of two hundred hosts that all want lanes, as many have one as the budget holds, and each in turn gets one."""
    budget = MemoryBudget(256 * MIB)
    lines = Lines()
    served = 0
    go_on = anyio.Event()

    async def one(lanes: ConnectionPool) -> None:
        nonlocal served
        async with lanes.acquire() as lane:
            served += 1
            assert lane.buffer > 0
            await go_on.wait()

    async with anyio.create_task_group() as tasks:
        hosts = [ConnectionPool(4, budget, lines.opening, tasks, 0.1) for _ in range(200)]
        async with anyio.create_task_group() as users:
            for lanes in hosts:
                users.start_soon(one, lanes)
            await until(lambda: not budget.has(0) and lines.open >= 64)
            assert lines.open < 200
            assert sum(lines.windows) <= 256 * MIB
            assert all(lanes.worthwhile(100 * MIB) == 1 for lanes in hosts)
            go_on.set()
            await until(lambda: served == 200)
        for lanes in hosts:
            lanes.release()
        await until(lambda: lines.open == 0)
    assert budget.has(256 * MIB)


async def test_first_lanes_get_large_windows_and_late_ones_still_some() -> None:
    """What one lane takes leaves room for those that come after it."""
    budget = MemoryBudget(256 * MIB)
    windows: list[int] = []
    async with AsyncExitStack() as stack:
        for _ in range(64):
            windows.append(window_within(budget))
            await stack.enter_async_context(budget.hold(windows[-1] + min(4 * MIB, windows[-1])))
    assert windows[0] == 8 * MIB
    assert windows == sorted(windows, reverse=True)
    assert windows[-1] >= MIB // 2
