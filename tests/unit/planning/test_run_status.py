"""How a run is doing, from what is on record of it and of its host."""

from typing import Any

import pytest

from harvestd.planning.run_status import CurrentStatus, RunProblem, RunStatus, current_status

NOW = 1e9
BEFORE: dict[str, Any] = {
    "finished": False,
    "problem": None,
    "step_at": None,
    "host_seen_at": NOW - 5,
    "host_is_gone": False,
    "now": NOW,
}
DIED = RunProblem(RunStatus.DIED, NOW - 60)
STALLED = RunProblem(RunStatus.STALLED, NOW - 60)
DIVERGED = RunProblem(RunStatus.DIVERGED, NOW - 60)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, CurrentStatus(RunStatus.RUNNING)),
        ({"finished": True, "problem": DIED}, CurrentStatus(RunStatus.FINISHED)),
        ({"problem": DIED}, CurrentStatus(RunStatus.DIED, NOW - 60)),
        ({"problem": STALLED}, CurrentStatus(RunStatus.STALLED, NOW - 60)),
        ({"problem": DIVERGED}, CurrentStatus(RunStatus.DIVERGED, NOW - 60)),
        ({"host_is_gone": True}, CurrentStatus(RunStatus.DIED, NOW - 5)),
        ({"host_is_gone": True, "problem": STALLED, "step_at": NOW - 5000}, CurrentStatus(RunStatus.DIED, NOW - 5000)),
        ({"host_is_gone": True, "step_at": NOW - 60}, CurrentStatus(RunStatus.RUNNING)),
        ({"host_seen_at": NOW - 5000}, CurrentStatus(RunStatus.UNKNOWN, NOW - 5000)),
        ({"host_seen_at": None}, CurrentStatus(RunStatus.UNKNOWN)),
        ({"host_seen_at": NOW - 5000, "step_at": NOW - 60}, CurrentStatus(RunStatus.RUNNING)),
        ({"host_seen_at": None, "problem": STALLED}, CurrentStatus(RunStatus.STALLED, NOW - 60)),
    ],
)
def test_a_run_has_one_status(facts: dict[str, Any], expected: CurrentStatus) -> None:
    """Finished goes first, then dead; what nobody watches any more is not believed to run."""
    assert current_status(**BEFORE | facts) == expected


@pytest.mark.parametrize(("status", "expected"), [(each, each in {"running", "diverged"}) for each in RunStatus])
def test_only_what_goes_on_has_time_left(status: RunStatus, expected: bool) -> None:  # noqa: FBT001
    """An estimate from the pace of a run that stands still would be shown for ever."""
    assert CurrentStatus(status).goes_on is expected
