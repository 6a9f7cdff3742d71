"""Checkpoints that are here only until a newer one is: the rolling one, and the provisional one of a run that died."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from harvestd.convention.paths import LocalPath
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.planning.plan import Plan
from harvestd.planning.records import FileRecord
from harvestd.planning.requests import Request, RequestKind
from harvestd.planning.retention import is_passing, rank
from harvestd.planning.run_status import Liveness
from support.box_trees import DIRECTORY, MIB, ROOT, Box, Home, T, reasons, targets

RUN = f"training_runs/{T}"
STATE = f"{DIRECTORY}/training_run/training_state"
DEAD = Liveness(idle_for=900.0, gpu_processes=0)
ROLLING = "rolling: the newest checkpoint, until a newer one is here"
DIED = "provisional: the run died at step {} without a final checkpoint"


@pytest.fixture
def box() -> Box:
    """Return a box with a run that got to step 40."""
    box = Box()
    box.add_run()
    box.add_checkpoint("step_20")
    box.add_checkpoint("step_40")
    return box


def rolling() -> Home:
    """Return a home that keeps the newest."""
    return Home(Selection(checkpoint=CheckpointPolicy.FINAL_AND_LATEST))


def here(home: Home) -> dict[str, set[str]]:
    """Return the checkpoints at home, each with the reasons of its files."""
    found: dict[str, set[str]] = {}
    for experiment in home.knowledge.experiments():
        for file in home.knowledge.files_of(experiment.id):
            if "training_state" in file.target.parts:
                found.setdefault(file.target.parts[3], set()).add(file.reason)
    return found


def removed(plan: Plan) -> dict[str, str]:
    """Return what a plan removes, and for what."""
    return {removal.directory.name: removal.newer for removal in plan.removals}


def file_at(home: Home, path: str) -> FileRecord:
    """Return the record of what stands at a place below training_state."""
    record = home.knowledge.holder(LocalPath.parse(f"{STATE}/{path}"))
    assert record is not None
    return record


def test_the_older_goes_once_the_newer_is_here(box: Box) -> None:
    """Not while it is on its way; its marker first; then nothing is left to do."""
    home = rolling()
    home.settle_all([box])
    assert here(home) == {"step_40": {ROLLING}}
    box.add_checkpoint("step_60")
    coming = home.plan(box)
    assert removed(coming) == {}
    home.do(coming, box)
    plan = home.plan(box)
    assert removed(plan) == {"step_40": "step_60"}
    assert plan.removals[0].files[0].marker
    assert not plan.groups
    home.do(plan, box)
    assert home.plan(box).is_empty
    assert here(home) == {"step_60": {ROLLING}}


def test_what_the_box_removed_goes_too(box: Box) -> None:
    """Programs that keep only their last checkpoints don't make ours pile up."""
    home = rolling()
    home.settle_all([box])
    for name in ("model/adapter_model.safetensors", "optimizer.pt", "training_info.json"):
        box.remove(f"{RUN}/training_state/step_40/{name}")
    box.add_checkpoint("step_60")
    home.settle_all([box])
    assert set(here(home)) == {"step_60"}


def test_a_newer_one_that_lacks_a_file_supersedes_nothing(box: Box) -> None:
    """A final checkpoint without its weights, or with an empty file, leaves the good one where it is."""
    home = rolling()
    home.settle_all([box])
    box.file(f"{RUN}/training_state/step_final/training_info.json", 900)
    box.file(f"{RUN}/training_state/step_final/optimizer.pt", 50 * MIB)
    box.file(f"{RUN}/training_state/step_final/model/adapter_model.safetensors", 0)
    home.settle_all([box])
    assert set(here(home)) == {"step_40", "step_final"}
    assert home.plan(box).is_empty
    box.file(f"{RUN}/training_state/step_final/model/adapter_model.safetensors", 50 * MIB)
    box.file(f"{RUN}/training_state/step_final/training_info.json", 900, age=10)
    home.settle_all([box])
    assert set(here(home)) == {"step_final"}


def test_a_newer_one_that_changed_on_the_box_supersedes_nothing_yet(box: Box) -> None:
    """What is being rewritten there is not whole here."""
    home = rolling()
    home.settle_all([box])
    box.add_checkpoint("step_60")
    home.do(home.plan(box), box)
    box.file(f"{RUN}/training_state/step_60/optimizer.pt", 51 * MIB, age=0.0)
    assert removed(home.plan(box)) == {}


def test_what_is_here_for_another_reason_stays(box: Box) -> None:
    """What "all" brought, and what was asked for by hand, is not the rolling copy."""
    home = Home(Selection(checkpoint=CheckpointPolicy.ALL))
    home.settle_all([box])
    home.selection = Selection(checkpoint=CheckpointPolicy.FINAL_AND_LATEST)
    box.add_checkpoint("step_60")
    home.settle_all([box])
    assert set(here(home)) == {"step_20", "step_40", "step_60"}
    assert home.plan(box).is_empty


def test_the_rolling_copy_that_is_asked_for_by_hand_stays(box: Box) -> None:
    """It is marked so at once, without being fetched again."""
    home = rolling()
    home.settle_all([box])
    place = f"{ROOT}/{RUN}"
    home.knowledge.add_request(Request(1, RequestKind.FETCH, box.storage, place, 0.0, {"thing": "step_40"}))
    plan = home.plan(box)
    assert not plan.groups
    home.do(plan, box)
    box.add_checkpoint("step_60")
    home.settle_all([box])
    assert here(home) == {"step_40": {"asked for by hand on 1970-01-01"}, "step_60": {ROLLING}}


def test_a_change_of_mind_keeps_what_is_here(box: Box) -> None:
    """With "all" the rolling copy is here for good; with "none" nothing goes."""
    home = rolling()
    home.settle_all([box])
    home.selection = Selection(checkpoint=CheckpointPolicy.NONE)
    assert home.plan(box).is_empty
    home.selection = Selection(checkpoint=CheckpointPolicy.ALL)
    home.settle_all([box])
    assert here(home)["step_40"] == {"step_40 is wanted"}


def test_the_link_never_dangles(box: Box) -> None:
    """It follows the box's where that leads to what is here, and else to what supersedes what it led to."""
    home = rolling()
    box.link(f"{RUN}/training_state/step_latest", "step_40")
    home.settle_all([box])
    link = LocalPath.parse(f"{STATE}/step_latest")
    assert home.knowledge.link_at(link) == "step_40"
    box.add_checkpoint("step_60")
    box.link(f"{RUN}/training_state/step_latest", "step_80")
    home.settle_all([box])
    assert home.knowledge.link_at(link) == "step_60"
    assert reasons(home.plan(box), f"{RUN}/training_state/step_latest") == ["a link: never followed"]


def quiet(box: Box) -> None:
    """Change nothing."""


def logs(box: Box) -> None:
    """Let the run log on a minute ago."""
    box.file(f"{RUN}/logs/train_log.jsonl", 6000, age=60)


def writes_a_checkpoint(box: Box) -> None:
    """Let the run write on a checkpoint a minute ago."""
    box.file(f"{RUN}/training_state/step_60/optimizer.pt", age=60)


def finishes(box: Box) -> None:
    """Let the run have been finished for an hour."""
    box.finish()


DEATHS: list[tuple[Callable[[Box], None], Liveness, str | None]] = [
    (quiet, DEAD, "step_40"),
    (quiet, replace(DEAD, gpu_processes=1), None),
    (quiet, replace(DEAD, gpu_processes=None), None),
    (quiet, replace(DEAD, idle_for=7200), None),
    (quiet, Liveness(900, None, frozenset({"gpu-b"})), "step_40"),
    (quiet, Liveness(900, 8, frozenset({"gpu-a"}), frozenset({"gpu-a"})), "step_40"),
    (quiet, Liveness(900, 8, frozenset({"gpu-a"})), None),
    (logs, DEAD, None),
    (logs, Liveness(900, None, frozenset()), None),
    (writes_a_checkpoint, DEAD, None),
    (finishes, DEAD, None),
]


@pytest.mark.parametrize(("story", "liveness", "expected"), DEATHS)
def test_a_dead_run_leaves_its_newest_whole_checkpoint(
    story: Callable[[Box], None], liveness: Liveness, expected: str | None, box: Box
) -> None:
    """Dead is what has not moved for long on a host that is gone, ending, or without a GPU process."""
    home = Home()
    home.liveness = liveness
    box.add_checkpoint("step_60", whole=False)
    story(box)
    home.learn(box)
    steps = {path.split("/")[3] for path in targets(home.plan(box)) if "/training_state/" in path} - {"step_final"}
    assert steps == ({expected} if expected else set())
    home.settle_all([box])
    found = {name: why for name, why in here(home).items() if name != "step_final"}
    assert found == ({expected: {DIED.format(40)}} if expected else {})


ASKING: list[tuple[CheckpointPolicy, Callable[[Box], None], bool]] = [
    (CheckpointPolicy.FINAL, quiet, True),
    (CheckpointPolicy.FINAL_AND_LATEST, quiet, True),
    (CheckpointPolicy.FINAL, logs, False),
    (CheckpointPolicy.FINAL, finishes, False),
    (CheckpointPolicy.NONE, quiet, False),
    (CheckpointPolicy.ALL, quiet, False),
]


@pytest.mark.parametrize(("policy", "story", "asks"), ASKING)
def test_a_box_is_asked_for_its_processes_only_where_they_decide(
    policy: CheckpointPolicy, story: Callable[[Box], None], box: Box, *, asks: bool
) -> None:
    """And not again once the run is known to have died, as long as nothing of it moves."""
    home = Home(Selection(checkpoint=policy))
    home.liveness = Liveness(idle_for=900)
    story(box)
    home.learn(box)
    assert home.plan(box).needs_liveness is asks
    home.liveness = DEAD
    home.settle_all([box])
    home.liveness = Liveness(idle_for=900)
    plan = home.plan(box)
    assert plan.is_empty
    assert not plan.needs_liveness


def test_of_a_dead_run_an_older_one_comes_where_the_newest_is_torn(box: Box) -> None:
    """A run that lives may still mend it; and where all of them fail, the newest is tried on."""
    home = Home()
    home.failing = {f"{ROOT}/{RUN}/training_state/step_40"}
    home.liveness = DEAD
    home.learn(box)
    assert {path.split("/")[3] for path in targets(home.plan(box)) if "training_state" in path} == {"step_20"}
    home.failing.add(f"{ROOT}/{RUN}/training_state/step_20")
    assert {path.split("/")[3] for path in targets(home.plan(box)) if "training_state" in path} == {"step_40"}
    living = rolling()
    living.failing = home.failing
    living.learn(box)
    assert {path.split("/")[3] for path in targets(living.plan(box)) if "training_state" in path} == {"step_40"}


def test_the_rolling_copy_of_a_dead_run_is_provisional(box: Box) -> None:
    """It is here already: only its reason changes, and changes back when the run goes on."""
    home = rolling()
    home.settle_all([box])
    home.liveness = DEAD
    home.do(home.plan(box), box)
    assert here(home) == {"step_40": {DIED.format(40)}}
    logs(box)
    home.settle_all([box])
    assert here(home) == {"step_40": {ROLLING}}


def test_a_final_checkpoint_supersedes_the_provisional_one(box: Box) -> None:
    """And so does a newer provisional one of a run that died twice."""
    home = Home()
    home.liveness = DEAD
    home.settle_all([box])
    box.add_checkpoint("step_60")
    home.settle_all([box])
    assert here(home) == {"step_60": {DIED.format(60)}}
    box.finish()
    home.settle_all([box])
    assert here(home) == {"step_final": {"step_final is wanted"}}
    assert home.plan(box).is_empty


def test_a_run_that_is_resumed_after_its_finish_rolls_on(box: Box) -> None:
    """What it writes beyond its old final step is newer than that; a new final checkpoint supersedes it again."""
    home = rolling()
    box.finish(step=64)
    home.settle_all([box])
    assert set(here(home)) == {"step_final"}
    box.add_checkpoint("step_80")
    home.settle_all([box])
    assert set(here(home)) == {"step_80", "step_final"}
    box.finish(step=128)
    box.file(f"{RUN}/training_state/step_final/training_info.json", 901, age=10)
    home.settle_all([box])
    assert set(here(home)) == {"step_final"}


def test_what_can_not_be_removed_is_not_tried_for_ever(box: Box) -> None:
    """Where the store refused it for want of the newer one, the plan is silent until something changes."""
    home = rolling()
    home.settle_all([box])
    box.add_checkpoint("step_60")
    home.do(home.plan(box), box)
    marker = file_at(home, "step_40/training_info.json")
    home.refused[marker.place, marker.target] = (marker.version, "the newer one is not here")
    assert home.plan(box).is_empty


@pytest.mark.parametrize(
    ("older", "newer", "final"),
    [
        ("step_9", "step_10", None),
        ("step_10", "step_final", None),
        ("step_64", "step_final", 64),
        ("step_final", "step_65", 64),
        ("step_" + "9" * 200, "step_final", None),
    ],
)
def test_newer_is_what_has_more_steps(older: str, newer: str, final: int | None) -> None:
    """The final one is of the step that it says, and beyond all others where it says none."""
    assert rank(older, final) < rank(newer, final)


def test_reasons_of_other_kinds_are_for_good() -> None:
    """Only what says that it passes does."""
    assert [is_passing(each) for each in (ROLLING, DIED.format(7), "step_40 is wanted", "", "a rolling: stone")] == [
        True,
        True,
        False,
        False,
        False,
    ]
