"""How many syncs share their waiting: side by side on a slow disk, one after the other on a quick one."""

import threading
from collections.abc import Sequence

import pytest

from harvestd.store import sync
from harvestd.store.sync import sync_together

QUICK, SLOW = 1e-6, 1e-3


class Disk:
    """Syncs numbers; each of the first ones takes as long as said, all further ones are slow."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, first: Sequence[float]) -> None:
        self.synced: list[int] = []
        self.threads: set[str] = set()
        self.begun: list[int] = []
        self._takes = iter(first)
        self._now = 0.0
        monkeypatch.setattr(sync, "perf_counter", lambda: self._now)

    def sync(self, some: Sequence[int]) -> None:
        """Sync some."""
        self.threads.add(threading.current_thread().name)
        self.synced += some
        self._now += next(self._takes, SLOW)

    def begin(self, some: Sequence[int]) -> None:
        """Begin with some."""
        self.begun += some


@pytest.mark.parametrize("first", [(QUICK,), (SLOW, QUICK), (SLOW, SLOW, QUICK)])
def test_on_a_quick_disk_no_thread_is_started(monkeypatch: pytest.MonkeyPatch, first: Sequence[float]) -> None:
    """One sync that waited for something else doesn't make a disk slow."""
    disk = Disk(monkeypatch, first)
    sync_together(range(100), disk.sync, disk.begin)
    assert disk.synced == list(range(100))
    assert disk.threads == {threading.current_thread().name}
    assert disk.begun == []


def test_on_a_slow_disk_many_wait_together(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is left after the first few is begun, then synced in threads, each once."""
    disk = Disk(monkeypatch, ())
    sync_together(range(100), disk.sync, disk.begin)
    assert sorted(disk.synced) == list(range(100))
    assert disk.threads > {threading.current_thread().name}
    assert disk.begun == list(range(3, 100))


@pytest.mark.parametrize("number", [0, 1, 2, 9])
def test_few_go_one_by_one(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A thread would cost more than it gains, and nothing at all is nothing to do."""
    disk = Disk(monkeypatch, ())
    sync_together(range(number), disk.sync, disk.begin)
    assert disk.synced == list(range(number))
    assert disk.threads <= {threading.current_thread().name}
