"""A plan is kept only while nothing can have changed it."""

from msgspec.structs import replace

from harvestd.convention.rules import Selection
from harvestd.convention.scan.model import ScanResult
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.harvest.host.kept_plan import KeptPlan
from harvestd.planning.index import PlanningIndex
from harvestd.planning.plan import Plan, Waiting
from harvestd.planning.planner import Situation

_SEEN = ScanResult((), (), ())
_PLAN = Plan()


def _situation(now: float, knowledge: PlanningIndex) -> Situation:
    return Situation("gpu-a", "s", knowledge, Selection(), StabilityTracker(), settle=10.0, now=now)


def _kept(knowledge: PlanningIndex, plan: Plan = _PLAN) -> KeptPlan:
    """Return one that saw nothing change for a minute and a bit, and was made at second 62."""
    kept = KeptPlan()
    for now in (0.0, 30.0, 62.0):
        assert kept.still_good(_SEEN, _situation(now, knowledge)) is None
        kept.keep(plan, _situation(now, knowledge))
    return kept


def test_what_stood_still_for_a_minute_is_planned_once_a_minute() -> None:
    """Before that each look plans, since files settle; after it one plan holds for a minute."""
    knowledge = PlanningIndex()
    kept = _kept(knowledge)
    assert kept.still_good(_SEEN, _situation(72.0, knowledge)) is _PLAN
    assert kept.still_good(_SEEN, _situation(123.0, knowledge)) is None


def test_any_change_makes_a_new_plan() -> None:
    """Another survey, anything newly known and anything newly refused: the plan is made anew, and for a minute on."""
    knowledge = PlanningIndex()
    kept = _kept(knowledge)
    assert kept.still_good(ScanResult((), (), ()), _situation(72.0, knowledge)) is None, "the same, but newly surveyed"
    kept = _kept(knowledge)
    knowledge.version += 1
    assert kept.still_good(_SEEN, _situation(72.0, knowledge)) is None
    kept.keep(_PLAN, _situation(72.0, knowledge))
    assert kept.still_good(_SEEN, _situation(82.0, knowledge)) is None
    kept = _kept(knowledge)
    failing = replace(_situation(72.0, knowledge), failing=("/x",))
    assert kept.still_good(_SEEN, failing) is None


def test_a_plan_that_waits_for_anything_is_never_kept() -> None:
    """What only needs time is looked at as often as ever."""
    knowledge = PlanningIndex()
    waits = Plan(waiting=(Waiting("/x", 1, "settling", 5.0),))
    assert _kept(knowledge, waits).still_good(_SEEN, _situation(72.0, knowledge)) is None
