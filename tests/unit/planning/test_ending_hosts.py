"""Plans of a host that may end at any moment: nothing settles, and what is worth most for its bytes comes first."""

import pytest

from harvestd.convention.kinds import Value
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.convention.scan.stability import NO_TIME
from support.box_trees import MIB, Box, Home, T, targets

RUN = f"training_runs/{T}"
LOG = f"{RUN}/logs/train_log.jsonl"
EVAL = f"eval_runs/{T}_gsm8k"
LEAF = f"{EVAL}/qwen2_5_15_gsm8k_finetuned/step_10_gsm8k/temp0.7_p1.0_r8"


@pytest.fixture
def box() -> Box:
    """Return a box in the middle of a run, with two whole checkpoints and one that is being written."""
    box = Box()
    box.add_run()
    box.file(f"{RUN}/tensorboard/events.out.tfevents.1.gpu-a.1.0", 8000)
    box.add_checkpoint("step_20")
    box.add_checkpoint("step_40")
    box.add_checkpoint("step_60", whole=False)
    return box


def _home(box: Box, *, settle: float = NO_TIME, policy: CheckpointPolicy = CheckpointPolicy.FINAL) -> Home:
    home = Home(Selection(checkpoint=policy), settle=settle)
    home.learn(box)
    return home


def _checkpoints(home: Home, box: Box) -> set[str]:
    names = {path.split("/")[3] for path in targets(home.plan(box)) if "/training_state/" in path}
    return {name for name in names if name.startswith("step_")}


def test_what_looks_whole_is_taken_at_once(box: Box) -> None:
    """A leaf without a marker that was written just now comes home; on any other host it would settle first."""
    box.file(f"{LEAF}/metrics.csv", 1200, age=0.0)
    assert f"{LEAF}/metrics.csv" not in targets(_home(box, settle=10.0).plan(box))
    plan = _home(box).plan(box)
    assert f"{LEAF}/metrics.csv" in targets(plan)
    assert not plan.waiting


def test_what_is_older_than_its_siblings_is_taken_too(box: Box) -> None:
    """A leaf that is being evaluated anew under an old marker is better than none."""
    box.add_leaf(LEAF)
    box.file(f"{LEAF}/metrics.csv", 1300, age=0.0)
    assert f"{LEAF}/metrics.csv" not in targets(_home(box, settle=10.0).plan(box))
    assert f"{LEAF}/metrics.csv" in targets(_home(box).plan(box))


def test_a_checkpoint_without_its_marker_is_not_taken(box: Box) -> None:
    """Nobody can say that it is whole, and half of one is worth nothing."""
    assert "step_60" not in _checkpoints(_home(box, policy=CheckpointPolicy.ALL), box)


@pytest.mark.parametrize(
    ("policy", "expected"),
    [
        (CheckpointPolicy.FINAL, {"step_40"}),
        (CheckpointPolicy.FINAL_AND_LATEST, {"step_40"}),
        (CheckpointPolicy.ALL, {"step_20", "step_40"}),
        (CheckpointPolicy.NONE, set()),
    ],
)
def test_the_newest_checkpoint_has_to_do_for_the_final_one(
    box: Box, policy: CheckpointPolicy, expected: set[str]
) -> None:
    """Who wants the final one gets the newest that is whole; who wants none gets none."""
    assert _checkpoints(_home(box, policy=policy), box) == expected
    if policy is CheckpointPolicy.FINAL:
        assert _checkpoints(_home(box, policy=policy, settle=10.0), box) == set()


def test_the_newest_checkpoint_comes_last(box: Box) -> None:
    """It is the largest and worth the least for its bytes; of what is worth the same the small comes first."""
    box.add_leaf(LEAF)
    box.file(f"{LEAF}/metrics.csv", 5 * MIB)
    box.add_leaf(f"eval_runs/{T}_math/results/step_10", marker="summary.json")
    box.add_run("training_runs/run_2025-08-20_09-00-00")
    plan = _home(box).plan(box)
    places = [group.place for group in plan.groups]
    assert places[-1].endswith("step_40")
    assert [group.value for group in plan.groups] == sorted(group.value for group in plan.groups)
    metrics = [group.size for group in plan.groups if group.value is Value.METRICS]
    assert metrics == sorted(metrics)
    assert len(metrics) > 1


def test_a_final_checkpoint_goes_before_another_runs_newest(box: Box) -> None:
    """What is wanted in any case comes before what only has to do."""
    done = "training_runs/run_2025-08-30_09-00-00"
    box.add_run(done)
    box.finish(done)
    box.file(f"{done}/training_state/step_final/huge.pt", 900 * MIB)
    places = [group.place for group in _home(box).plan(box).groups if "/training_state/" in group.place]
    assert [place.rpartition("/")[2] for place in places] == ["step_final", "step_40"]


def test_growing_files_come_with_their_raw_tail(box: Box) -> None:
    """Half a line is more than none, where the rest may never be written; it goes on if it is."""
    home = _home(box, settle=10.0)
    home.settle_all([box])
    box.grow(LOG, 700)
    assert [follow.whole for follow in home.plan(box).follows] == [False]
    home.settle = NO_TIME
    (follow,) = home.plan(box).follows
    assert (follow.whole, follow.size) == (True, 700)


def test_a_host_that_recovers_goes_by_the_rules_again(box: Box) -> None:
    """The checkpoint that was brought stays until a newer one is here; no other one is fetched."""
    home = _home(box)
    home.settle_all([box])
    home.settle = 10.0
    box.add_checkpoint("step_80")
    plan = home.plan(box)
    assert _checkpoints(home, box) == set()
    assert not plan.removals
