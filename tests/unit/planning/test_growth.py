"""The cost of planning grows with what there is, and not with its square."""

import time
from collections.abc import Callable
from functools import partial

import pytest

from harvestd.convention.rules import Selection
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.planning.host_plan.planner import HostPlanner
from harvestd.planning.host_plan.situation import Situation
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import RunRecord
from harvestd.planning.requests import Request, RequestKind
from harvestd.safety.accounting import not_here
from harvestd.safety.inputs import NoMemo
from support.box_trees import QWEN, ROOT, Box, Home, T

GROWTH = 4
"""How many times as much there is in the larger case."""
LINEAR = 2.2 * GROWTH
"""Below the square, and above what a busy machine makes of a straight line."""


def seconds(work: Callable[[], object]) -> float:
    """Return the CPU seconds of the quickest of several turns."""
    took = []
    for _ in range(5):
        began = time.process_time()
        work()
        took.append(time.process_time() - began)
    return min(took)


def evaluated(leaves: int, *, asked: bool, selection: Selection | None = None) -> Callable[[], object]:
    """Return the planning of a host that shows one run with so many evals and their records."""
    box, home = Box("gpu-a", "static:gpu-a"), Home(selection)
    box.file(f"training_runs/{T}/config.yaml", 900)
    for number in range(leaves):
        leaf = f"eval_runs/{T}_gsm8k/results/step_{number}_gsm8k/greedy"
        box.files(f"{leaf}/metrics.csv", f"{leaf}/run_meta.json", f"{leaf}/records.jsonl.gz")
    home.learn(box)
    if asked:
        place = f"{ROOT}/training_runs/{T}"
        home.knowledge.add_request(Request(1, RequestKind.FETCH, box.storage, place, 0.0, {"thing": "records"}))
    plan = home.plan(box)
    assert (len(plan.groups) >= leaves) is (asked or selection is not None)
    return partial(home.plan, box)


@pytest.mark.parametrize(("asked", "selection"), [(False, Selection(records=True)), (True, None)])
def test_records_of_many_evals_are_planned_in_proportion(*, asked: bool, selection: Selection | None) -> None:
    """Whether a rule brings all records or a person asked for them."""
    few = seconds(evaluated(400, asked=asked, selection=selection))
    many = seconds(evaluated(400 * GROWTH, asked=asked, selection=selection))
    assert many < LINEAR * few


def test_planning_can_be_interrupted_at_each_directory() -> None:
    """Also where much is to be done in each: the first plan of a large host must not hold the event loop."""
    box, home = Box("gpu-a", "static:gpu-a"), Home()
    box.file(f"training_runs/{T}/config.yaml", 900)
    for number in range(30):
        leaf = f"eval_runs/{T}_set{number}/results/step_1_gsm8k/greedy"
        box.files(f"{leaf}/metrics.csv", f"{leaf}/run_meta.json")
    home.learn(box)
    plan = home.plan(box)
    assert len(plan.groups) == 31
    situation = Situation(
        host=box.name,
        storage=box.storage,
        knowledge=home.knowledge,
        selection=home.selection,
        sightings=StabilityTracker(),
        settle=0.0,
        now=0.0,
    )
    assert len(list(HostPlanner().planning(home.last_survey(box), situation))) >= 31


def asked_for(experiments: int) -> Callable[[], object]:
    """Return a question for what is asked for in one experiment, where something is asked for in each of so many."""
    knowledge = PlanningIndex()
    for number in range(experiments):
        place, experiment = f"/r/{number}", f"e{number}"
        knowledge.add_run(RunRecord(experiment, "s", place, "h", f"run_{number}", QWEN, Version(1, 1), experiment))
        knowledge.add_request(Request(number, RequestKind.IGNORE, "s", place, 0.0))
    assert knowledge.ignored_in("e1") is not None
    return lambda: [knowledge.ignored_in("e1") for _ in range(200)]


def test_requests_of_other_experiments_cost_nothing() -> None:
    """What is asked for is found by experiment."""
    assert seconds(asked_for(500 * GROWTH)) < 2 * seconds(asked_for(500))


def ignored(evals: int) -> Callable[[], object]:
    """Return a question for what is missing of a host that shows so many evals of a run that a person ignores."""
    box, home = Box("gpu-a", "static:gpu-a"), Home()
    box.add_run()
    for number in range(evals):
        box.file(f"eval_runs/{T}_set{number}/greedy/metrics.csv")
    home.learn(box)
    home.knowledge.add_request(Request(1, RequestKind.IGNORE, box.storage, f"{ROOT}/training_runs/{T}", 0.0))
    plan = home.plan(box)
    assert len(plan.ignored) == evals + 1
    return lambda: not_here(home.last_survey(box), plan, box.storage, home.knowledge, NoMemo())


def test_what_is_ignored_is_accounted_for_in_proportion() -> None:
    """A person who ignores a run ignores each of its evals."""
    assert seconds(ignored(1000 * GROWTH)) < LINEAR * seconds(ignored(1000))
