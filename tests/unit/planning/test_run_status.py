"""How a run is doing, from what is on record of it and of its host."""

from typing import Any

import pytest

from harvestd.planning.run_status import RunStatus, RunTrouble, Standing, standing

NOW = 1e9
BEFORE: dict[str, Any] = {
    "finished": False,
    "trouble": None,
    "step_at": None,
    "host_seen_at": NOW - 5,
    "host_is_gone": False,
    "now": NOW,
}
DIED = RunTrouble(RunStatus.DIED, NOW - 60)
STALLED = RunTrouble(RunStatus.STALLED, NOW - 60)
DIVERGED = RunTrouble(RunStatus.DIVERGED, NOW - 60)


@pytest.mark.parametrize(
    ("facts", "expected"),
    [
        ({}, Standing(RunStatus.RUNNING)),
        ({"finished": True, "trouble": DIED}, Standing(RunStatus.FINISHED)),
        ({"trouble": DIED}, Standing(RunStatus.DIED, NOW - 60)),
        ({"trouble": STALLED}, Standing(RunStatus.STALLED, NOW - 60)),
        ({"trouble": DIVERGED}, Standing(RunStatus.DIVERGED, NOW - 60)),
        ({"host_is_gone": True}, Standing(RunStatus.DIED, NOW - 5)),
        ({"host_is_gone": True, "trouble": STALLED, "step_at": NOW - 5000}, Standing(RunStatus.DIED, NOW - 5000)),
        ({"host_is_gone": True, "step_at": NOW - 60}, Standing(RunStatus.RUNNING)),
        ({"host_seen_at": NOW - 5000}, Standing(RunStatus.UNKNOWN, NOW - 5000)),
        ({"host_seen_at": None}, Standing(RunStatus.UNKNOWN)),
        ({"host_seen_at": NOW - 5000, "step_at": NOW - 60}, Standing(RunStatus.RUNNING)),
        ({"host_seen_at": None, "trouble": STALLED}, Standing(RunStatus.STALLED, NOW - 60)),
    ],
)
def test_a_run_has_one_status(facts: dict[str, Any], expected: Standing) -> None:
    """Finished goes first, then dead; what nobody watches any more is not believed to run."""
    assert standing(**BEFORE | facts) == expected


@pytest.mark.parametrize(("status", "expected"), [(each, each in {"running", "diverged"}) for each in RunStatus])
def test_only_what_goes_on_has_time_left(status: RunStatus, expected: bool) -> None:  # noqa: FBT001
    """An estimate from the pace of a run that stands still would be shown for ever."""
    assert Standing(status).goes_on is expected
