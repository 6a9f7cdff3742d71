"""Room on the data root's disk: how long fetching rests after the disk was full."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

from harvestd.harvest.budgets import DiskSpace
from harvestd.store.root import DataRoot

pytestmark = pytest.mark.anyio


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Return the clock that the room reads; its `now` is in seconds."""
    made = SimpleNamespace(now=1000.0)
    monkeypatch.setattr("harvestd.harvest.budgets.time", SimpleNamespace(monotonic=lambda: made.now))
    return made


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DataRoot]:
    """Provide a data root on a disk that has room."""
    with DataRoot.open(tmp_path) as opened:
        yield opened


async def test_writes_that_fail_together_rest_as_one(root: DataRoot, clock: SimpleNamespace) -> None:
    """The writes of many hosts fail at the same moment: fetching rests for the first pause, not for the ninth."""
    room = DiskSpace(floor=0)
    for _ in range(9):
        room.ran_full()
    assert not await room.left(root)
    clock.now += 0.5
    assert await room.left(root)


async def test_a_disk_that_is_full_for_months_is_tried_every_minute(root: DataRoot, clock: SimpleNamespace) -> None:
    """However often it was full, fetching goes on after a minute at the latest."""
    room = DiskSpace(floor=0)
    for _ in range(1_100):
        room.ran_full()
        clock.now += 60.0
        assert await room.left(root)
    room.ran_full()
    clock.now += 59.0
    assert not await room.left(root)
