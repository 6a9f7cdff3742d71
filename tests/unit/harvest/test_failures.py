"""What does not work on a host is asked for less and less often, and what hangs lets all others go first."""

import structlog.testing

from harvestd.harvest.host.failures import FailureTracker
from support.waiting import events


def test_what_hangs_is_told_at_once_and_once() -> None:
    """A file whose reading hangs is a person's affair the first time, and no news the next times."""
    troubles = FailureTracker("gpu-a")
    with structlog.testing.capture_logs() as said:
        for _ in range(4):
            troubles.stuck("/fs/a", "it hangs")
    (told,) = events(said, "file.rejected")
    assert told["path"] == "/fs/a"


def test_what_hangs_waits_longer_than_what_fails() -> None:
    """The first pause is a minute, at most five in the end; another file's is a second."""
    troubles = FailureTracker("gpu-a")
    troubles.failed("/fs/b", "it changed")
    pauses = []
    for _ in range(5):
        troubles.stuck("/fs/a", "it hangs")
        pauses.append(round(troubles.pause(["/fs/a"])))
    assert pauses == [60, 120, 240, 300, 300]
    assert troubles.pause(["/fs/a", "/fs/b"]) <= 1


def test_what_hangs_holds_no_single_pass_open() -> None:
    """It counts for all attempts that a pass would take."""
    troubles = FailureTracker("gpu-a")
    troubles.stuck("/fs/a", "it hangs")
    assert troubles.attempts("/fs/a") >= 3
