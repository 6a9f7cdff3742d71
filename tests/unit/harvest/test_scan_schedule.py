"""When a scan must be requested of a host that may scan by itself, on a clock of the tests' own."""

import pytest

from harvestd.harvest.host import loop
from harvestd.harvest.host.loop import ScanSchedule
from harvestd.remote.api import REST_PER_SCAN, WHOLE_EVERY
from harvestd.remote.probe.program import watching

APART = 10.0


class Clock:
    """The time."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return it."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Provide the clock that is read."""
    clock = Clock()
    monkeypatch.setattr(loop, "time", clock)
    return clock


def schedule(*, scans_itself: bool, took: float = 0.0) -> ScanSchedule:
    """Return the schedule after a scan that was requested."""
    made = ScanSchedule()
    made.interval, made.scans_itself = APART, scans_itself
    made.requested(1000.0 - took, took)
    return made


def test_a_host_that_does_not_scan_by_itself_is_asked_in_each_interval(clock: Clock) -> None:
    """Whatever it pushes."""
    asked = schedule(scans_itself=False)
    assert asked.due == clock.now + APART
    clock.now += 5
    asked.pushed(1004.0)
    assert asked.due == 1000.0 + APART


def test_reports_postpone_the_request_but_not_for_good(clock: Clock) -> None:
    """Two intervals without any, or too long since the last request, and the host is asked."""
    asked = schedule(scans_itself=True)
    assert asked.due == clock.now + 2 * APART
    for _ in range(30):
        clock.now += APART
        asked.reported(0.0)
        assert asked.due == clock.now + 2 * APART
    clock.now = 1000.0 + WHOLE_EVERY - 5
    asked.reported(0.0)
    assert asked.due == 1000.0 + WHOLE_EVERY


def test_pushes_that_are_no_scan_postpone_nothing(clock: Clock) -> None:
    """What the kernel reported may be incomplete; a scan of all trees that found changes is as good as a report."""
    asked = schedule(scans_itself=True)
    clock.now += 15
    asked.pushed(1000.0)
    assert asked.due == 1000.0 + 2 * APART
    asked.pushed(1012.0)
    assert asked.due == clock.now + 2 * APART


def test_a_host_whose_scans_take_long_is_waited_for(clock: Clock) -> None:
    """It rests in proportion, and says that it is still scanning."""
    asked = schedule(scans_itself=True, took=30.0)
    assert asked.due == clock.now + 2 * APART + 5 * 30.0
    clock.now += 160
    asked.reported()
    assert asked.due == clock.now + 2 * APART + 5 * 30.0
    assert watching.REST_PER_SCAN == REST_PER_SCAN


def test_an_interval_longer_than_that_of_whole_scans_holds(clock: Clock) -> None:
    """Who asks once an hour is asked no more often."""
    asked = schedule(scans_itself=True)
    asked.interval = 3600.0
    assert asked.due == clock.now + 3600.0
