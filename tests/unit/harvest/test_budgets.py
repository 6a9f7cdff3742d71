"""What all hosts share can be made larger and smaller while it is in use."""

import time

import anyio
import pytest

from harvestd.harvest.budgets import Bandwidth, MemoryBudget
from support.waiting import DEADLINE

pytestmark = pytest.mark.anyio


async def test_a_larger_budget_lets_in_who_waits() -> None:
    """Who waits for memory has it as soon as there is more."""
    budget = MemoryBudget(10)
    await budget.take(8)
    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(budget.take, 8)
            await anyio.wait_all_tasks_blocked()
            assert not budget.has(1)
            budget.resize(16)
    assert not budget.has(1)


async def test_a_smaller_budget_waits_for_what_is_held_and_stops_nobody_for_good() -> None:
    """What was taken before counts on; a wish larger than the new whole is granted when nobody holds any."""
    budget = MemoryBudget(100)
    await budget.take(60)
    budget.resize(10)
    assert not budget.has(1)
    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(budget.take, 50)
            await anyio.wait_all_tasks_blocked()
            budget.give_back(60)
    budget.give_back(50)
    assert budget.has(10)
    await budget.take(4)
    assert not budget.has(7)


async def test_a_faster_line_wakes_who_pays_for_the_slow_one() -> None:
    """Nobody sleeps off a debt of a rate that holds no more."""
    bandwidth = Bandwidth(1)
    started = time.monotonic()
    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bandwidth.spend, 1_000_000)
            await anyio.wait_all_tasks_blocked()
            bandwidth.resize(None)
        await bandwidth.spend(1_000_000)
        bandwidth.resize(1_000_000)
        await bandwidth.spend(1_000)
    assert time.monotonic() - started < DEADLINE


async def test_who_waits_keeps_its_place_at_another_rate() -> None:
    """A changed rate lets nobody pass unpaid: what is left to wait is left at the new rate, in the same order."""
    bandwidth = Bandwidth(1_000)
    done: list[int] = []

    async def spend(number: int) -> None:
        await bandwidth.spend(1_000_000)
        done.append(number)

    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            for number in range(4):
                tasks.start_soon(spend, number)
                await anyio.wait_all_tasks_blocked()
            for rate in (2_000, 1_000, 3_000):
                bandwidth.resize(rate)
                await anyio.wait_all_tasks_blocked()
            assert done == []
            started = time.monotonic()
            bandwidth.resize(10_000_000)
    assert done == [0, 1, 2, 3]
    assert time.monotonic() - started >= 0.3


async def test_what_is_small_waits_for_nothing_large_and_the_rate_holds() -> None:
    """A metric passes twenty checkpoints that wait, and those that come after it wait the longer for it."""
    bandwidth = Bandwidth(1_000_000)
    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(bandwidth.spend, 1_000_000)
            await anyio.wait_all_tasks_blocked()
            started = time.monotonic()
            await bandwidth.spend_first(300_000)
            took = time.monotonic() - started
            assert took < 10  # those before it take twenty seconds
            tasks.cancel_scope.cancel()
        for name in ("spend", "spend_first"):
            quick = Bandwidth(4_000_000)
            started = time.monotonic()
            await quick.spend_first(1_200_000)
            await getattr(quick, name)(400_000)
            assert time.monotonic() - started >= 0.4
