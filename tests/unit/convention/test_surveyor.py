"""Surveying one host again and again: what did not change is taken over, everything else is understood anew."""

import time

import pytest
from msgspec.structs import replace

from harvestd.convention.rules import Selection
from harvestd.convention.scan.classify import Surveyor, survey
from harvestd.convention.scan.snapshot import EntryType, TreeState, Version
from support.box_trees import EVALS, TRAINING, Box, T, stamped

SELECTION = Selection()
FIRST, SECOND = T, "run_2025-08-21_00-00-00"


@pytest.fixture
def box() -> Box:
    """Return a box with two runs and the evals of both."""
    box = Box()
    for run in (FIRST, SECOND):
        box.add_run(f"training_runs/{run}")
        box.add_leaf(f"eval_runs/{run}_gsm8k/qwen2_5_15_gsm8k_finetuned/step_10_gsm8k/temp0.7")
    return box


def test_what_did_not_change_is_taken_over(box: Box) -> None:
    """After one file of one run changed, only that run is another object; the other directories are the very same."""
    surveyor = Surveyor()
    before = surveyor.survey(box.snapshot(), SELECTION)
    box.grow(f"training_runs/{SECOND}/logs/train_log.jsonl", 10)
    after = surveyor.survey(box.snapshot(), SELECTION)
    assert [run is same for run, same in zip(after.runs, before.runs, strict=True)] == [True, False]
    assert all(eval_dir is same for eval_dir, same in zip(after.evals, before.evals, strict=True))
    assert after == survey(box.snapshot(), SELECTION)
    assert after != before


def test_times_of_directories_change_nothing(box: Box) -> None:
    """A directory's own times say nothing about what is in it."""
    surveyor = Surveyor()
    before = surveyor.survey(box.snapshot(), SELECTION)
    for path, entry in box.entries[EVALS].items():
        if path.name.startswith("step_"):
            box.entries[EVALS][path] = replace(entry, version=replace(entry.version, mtime_ns=7))
    after = surveyor.survey(box.snapshot(), SELECTION)
    assert all(eval_dir is same for eval_dir, same in zip(after.evals, before.evals, strict=True))


def test_a_tree_that_was_shut_for_a_while_is_seen_again(box: Box) -> None:
    """Nothing of a tree that may not be listed stands in a survey; afterwards all of it does."""
    surveyor = Surveyor()
    whole = surveyor.survey(box.snapshot(), SELECTION)
    box.states[EVALS] = TreeState.DENIED
    assert surveyor.survey(box.snapshot(), SELECTION).evals == ()
    del box.states[EVALS]
    assert surveyor.survey(box.snapshot(), SELECTION) == whole


def test_a_directory_that_is_shut_is_told_though_nothing_else_changed(box: Box) -> None:
    """A listing with the same entries, of which one directory may not be listed any more, is another listing."""
    surveyor = Surveyor()
    snapshot = box.snapshot()
    surveyor.survey(snapshot, SELECTION)
    _, shut = box.place(f"training_runs/{FIRST}/logs")
    listings = tuple(
        replace(listing, unreadable=(shut,)) if listing.tree is TRAINING else listing for listing in snapshot.listings
    )
    changed = replace(snapshot, listings=listings)
    assert surveyor.survey(changed, SELECTION) == survey(changed, SELECTION)
    assert surveyor.survey(changed, SELECTION) != survey(snapshot, SELECTION)


def test_another_selection_is_another_survey(box: Box) -> None:
    """What was understood for one choice of the operator is never given for another."""
    surveyor = Surveyor()
    surveyor.survey(box.snapshot(), SELECTION)
    chosen = Selection(exclude=("temp0.7",))
    found = surveyor.survey(box.snapshot(), chosen)
    assert found == survey(box.snapshot(), chosen)
    assert all(eval_dir.groups == () for eval_dir in found.evals)


def test_an_eval_directory_that_is_emptied_is_gone(box: Box) -> None:
    """Directories alone are no eval, whatever was in them before."""
    surveyor = Surveyor()
    assert len(surveyor.survey(box.snapshot(), SELECTION).evals) == 2
    for name in ("metrics.csv", "run_meta.json"):
        box.remove(f"eval_runs/{FIRST}_gsm8k/qwen2_5_15_gsm8k_finetuned/step_10_gsm8k/temp0.7/{name}")
    assert [eval_dir.path.name for eval_dir in surveyor.survey(box.snapshot(), SELECTION).evals] == [f"{SECOND}_gsm8k"]


def evaluated(evals: int) -> Box:
    """Return a box with so many evals, as a probe shows them: without the directories that they are in."""
    box = Box()
    for number in range(evals):
        box.files(*(f"eval_runs/{T}_set{number}/greedy/{name}" for name in ("metrics.csv", "run_meta.json")))
    box.entries[EVALS] = {path: each for path, each in box.entries[EVALS].items() if each.type is EntryType.FILE}
    return box


def test_a_change_of_many_directories_can_be_interrupted_at_each() -> None:
    """After a `chown -R` these are all directories of a host, which must not hold the event loop."""
    box, surveyor = evaluated(30), Surveyor()
    before = stamped(box.snapshot(), None)
    surveyor.survey(before, SELECTION)
    changed = {path: replace(each, version=Version(7, 8, 9)) for path, each in box.entries[EVALS].items()}
    box.entries[EVALS] = changed
    assert len(list(surveyor.surveying(stamped(box.snapshot(), before), SELECTION))) >= 30


def removing(evals: int) -> float:
    """Return the CPU seconds of surveying a host from which half of so many evals were removed."""
    took = []
    for _ in range(3):
        box, surveyor = evaluated(evals), Surveyor()
        before = stamped(box.snapshot(), None)
        surveyor.survey(before, SELECTION)
        kept = {f"{T}_set{number}" for number in range(evals // 2)}
        box.entries[EVALS] = {path: each for path, each in box.entries[EVALS].items() if path.parts[0] in kept}
        after = stamped(box.snapshot(), before)
        began = time.process_time()
        found = surveyor.survey(after, SELECTION)
        took.append(time.process_time() - began)
        assert found == survey(after, SELECTION)
    return min(took)


def test_many_evals_that_vanish_cost_in_proportion() -> None:
    """As after an `rm -rf`: not each of them takes a look at all that is left."""
    assert removing(1600) < 2.2 * 4 * removing(400)
