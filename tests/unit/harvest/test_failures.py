"""What does not work on a host is asked for less and less often, and what hangs lets all others go first."""

import time

import pytest
import structlog.testing

from harvestd.harvest.host import failures
from harvestd.harvest.host.failures import FailureTracker
from support.waiting import events


def test_what_hangs_is_told_at_once_and_once() -> None:
    """A file whose reading hangs is a person's affair the first time, and no news the next times."""
    tracker = FailureTracker("gpu-a")
    with structlog.testing.capture_logs() as event_log:
        for _ in range(4):
            tracker.stuck("/fs/a", "it hangs")
    (told,) = events(event_log, "file.rejected")
    assert told["path"] == "/fs/a"


def test_what_hangs_waits_longer_than_what_fails() -> None:
    """The first pause is a minute, at most five in the end; another file's is a second."""
    tracker = FailureTracker("gpu-a")
    tracker.failed("/fs/b", "it changed")
    pauses = []
    for _ in range(5):
        tracker.stuck("/fs/a", "it hangs")
        pauses.append(round(tracker.pause(["/fs/a"])))
    assert pauses == [60, 120, 240, 300, 300]
    assert tracker.pause(["/fs/a", "/fs/b"]) <= 1


def test_what_hangs_holds_no_single_pass_open() -> None:
    """It counts for all attempts that a pass would take."""
    tracker = FailureTracker("gpu-a")
    tracker.stuck("/fs/a", "it hangs")
    assert tracker.attempts("/fs/a") >= 3


def test_a_pause_that_ended_since_the_last_attempts_is_not_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    """The next attempt is due at once; after attempts that began later than the pause ended, nothing is due."""
    monkeypatch.setattr(failures, "FIRST_PAUSE", 0.0)
    tracker, began = FailureTracker("gpu-a"), time.monotonic()
    assert tracker.next_try(["/fs/a"], began) is None
    tracker.failed("/fs/a", "it changed")
    assert tracker.next_try(["/fs/a"], began) == 0.0
    assert tracker.next_try(["/fs/b"], began) is None
    assert tracker.next_try(["/fs/a"], time.monotonic()) is None


def test_the_first_pause_that_ends_is_waited_for() -> None:
    """The one of a file that hangs is longer than the one of a file that changed."""
    tracker, began = FailureTracker("gpu-a"), time.monotonic()
    tracker.stuck("/fs/a", "it hangs")
    tracker.failed("/fs/b", "it changed")
    assert 0 < (tracker.next_try(["/fs/a", "/fs/b"], began) or 0) <= 1
    assert 59 < (tracker.next_try(["/fs/a"], began) or 0) <= 60
