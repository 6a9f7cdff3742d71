"""An answer that is under way when the daemon ends: waited for, but not for long."""

import time

import anyio
import pytest

from harvestd.errors import DiskFull
from harvestd.notify.alarms import finished

pytestmark = pytest.mark.anyio


async def test_work_that_is_cancelled_comes_to_its_end() -> None:
    """The cancellation takes effect after it."""
    begun, go_on, done = anyio.Event(), anyio.Event(), []

    async def work() -> None:
        begun.set()
        await go_on.wait()
        done.append("recorded")

    async def run() -> None:
        await finished(work, 60.0)
        done.append("not cancelled")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await begun.wait()
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.wait_all_tasks_blocked()
            go_on.set()
    assert done == ["recorded"]


async def test_work_that_hangs_is_ended_after_the_grace() -> None:
    """A receiver that does not answer does not hold the daemon."""
    began = time.monotonic()
    with anyio.move_on_after(0.05) as scope:
        await finished(anyio.sleep_forever, 0.1)
    assert scope.cancelled_caught
    assert 0.1 < time.monotonic() - began < 10


async def test_what_it_raises_is_raised_as_it_is() -> None:
    """A full disk and a defect have different classes."""

    async def fail() -> None:
        raise DiskFull("no room")

    with pytest.raises(DiskFull):
        await finished(fail, 1.0)
