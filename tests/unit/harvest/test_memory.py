"""When memory is freed that nothing needs any more."""

import gc

import anyio
import anyio.lowlevel
import pytest

from harvestd.harvest import memory
from harvestd.harvest.fleet.metrics import FleetMetrics
from support.waiting import until

pytestmark = pytest.mark.anyio


class Cycle:
    """An object that only the collector of cycles frees."""

    freed = 0

    def __init__(self) -> None:
        self.itself = self

    def __del__(self) -> None:
        Cycle.freed += 1


async def test_closed_connections_are_collected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also those that lasted for so long that the automatic collector does not look at them any more."""
    monkeypatch.setattr(memory, "_COLLECTING", 0.01)
    tally = FleetMetrics()
    Cycle.freed = 0
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(memory.collect, tally)
        await anyio.lowlevel.checkpoint()
        held = Cycle()
        gc.collect()
        del held
        assert Cycle.freed == 0
        tally.stands("gpu-a", "connected")
        tally.stands("gpu-a", "lost")
        await until(lambda: Cycle.freed == 1)
        tasks.cancel_scope.cancel()


def test_connections_that_end_are_counted() -> None:
    """A host that could not be reached had none."""
    tally = FleetMetrics()
    for state in ("connecting", "lost", "connecting", "connected", "lost", "connecting", "lost"):
        tally.stands("gpu-a", state)
    assert tally.ended == 1
