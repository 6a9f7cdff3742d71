"""Whose turn it is to begin: a few at a time, in order, and nobody holds the others up for long."""

from contextlib import suppress

import anyio
import pytest

from harvestd.harvest.state import StartGate

pytestmark = pytest.mark.anyio


async def test_only_a_few_begin_at_once_and_in_order() -> None:
    """Who comes later waits for those before it."""
    beginning = StartGate(at_once=2, longest=60)
    begun: list[int] = []
    ended = [anyio.Event() for _ in range(6)]

    async def host(number: int) -> None:
        async with beginning.slot():
            begun.append(number)
            await ended[number].wait()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(host, number)
            await anyio.wait_all_tasks_blocked()
            assert begun == [0, 1]
            ended[1].set()
            await anyio.wait_all_tasks_blocked()
            assert begun == [0, 1, 2]
            for event in ended:
                event.set()
    assert begun == list(range(6))


async def test_who_takes_long_leaves_its_turn_once() -> None:
    """The next one begins beside it, and not two when it ends."""
    beginning = StartGate(at_once=1, longest=0.01)
    go_on = anyio.Event()

    async def slow() -> None:
        async with beginning.slot():
            await go_on.wait()

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(slow)
            await anyio.wait_all_tasks_blocked()
            async with beginning.slot():
                go_on.set()
    assert beginning.free.available_tokens == 1


async def test_a_turn_comes_back_when_a_link_is_lost() -> None:
    """The next host begins."""
    beginning = StartGate(at_once=1, longest=60)
    with suppress(ConnectionError):
        async with beginning.slot():
            raise ConnectionError
    assert beginning.free.available_tokens == 1


async def test_a_turn_comes_back_when_work_is_cancelled() -> None:
    """While it is held, and while it is waited for."""
    beginning = StartGate(at_once=1, longest=60)
    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(_hold, beginning)
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
    assert beginning.free.available_tokens == 1


async def _hold(beginning: StartGate) -> None:
    async with beginning.slot():
        await anyio.sleep_forever()
