"""Deadlines of tasks: who is stuck is known, and who is only waiting is not taken for stuck."""

import pytest

from harvestd.telemetry.service_manager import GRACE, Deadlines


def test_a_task_past_its_deadline_is_named() -> None:
    """Only once its time and the grace are over, and the one that is late for longest."""
    now = 0.0
    deadlines = Deadlines(lambda: now)
    with deadlines.within(10, "a look"), deadlines.within(5, "a pause"):
        now = 5 + GRACE
        assert not deadlines.overdue()
        now = 10 + GRACE + 0.1
        assert deadlines.overdue() == "a pause"


def test_a_deadline_can_be_renewed() -> None:
    """A task that waits on for a reason has other seconds from then on."""
    now = 0.0
    deadlines = Deadlines(lambda: now)
    with deadlines.within(10, "a pause") as renew:
        now = 9.0
        renew(100)
        now = 109.0 + GRACE
        assert not deadlines.overdue()
        now = 109.1 + GRACE
        assert deadlines.overdue() == "a pause"


def test_a_task_that_came_round_is_not_late() -> None:
    """Neither one that ended nor one that failed is held against the process."""
    now = 0.0
    deadlines = Deadlines(lambda: now)
    with deadlines.within(1, "a look"):
        pass
    with pytest.raises(OSError, match="gone"), deadlines.within(1, "a look"):
        raise OSError("gone")
    now = 2 * GRACE
    assert not deadlines.overdue()
