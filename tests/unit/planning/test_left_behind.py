"""What was left out and is not shown any more: kept on record where it is gone or can't be seen."""

from collections.abc import Iterable

import pytest

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.scan.skipped import MANY
from harvestd.convention.scan.snapshot import Entry, EntryType, Listing, Snapshot, Tree, TreeKind, TreeState, Version
from harvestd.planning.left_behind import EntryState, EntryStates, kept_on_record

TREE = Tree("/data", "training_runs", TreeKind.TRAINING)
RUN = "/data/training_runs/run_1"
NOW = 1000.0


def shown(paths: Iterable[str], state: TreeState = TreeState.PRESENT, unreadable: Iterable[str] = ()) -> EntryStates:
    """Return what a scan says that shows these files."""
    made = [RemotePath.parse(path) for path in paths]
    entries = {path: Entry(path, EntryType.FILE, Version(1, 1)) for path in made}
    listing = Listing(TREE, state, entries=entries, unreadable=tuple(RemotePath.parse(each) for each in unreadable))
    return EntryStates(Snapshot((listing,), 0))


def step(number: int, reason: str = 'rule: select.checkpoint = "final"') -> LeftOut:
    """Return the line of a checkpoint."""
    return LeftOut(f"{RUN}/training_state/step_{number}", 10, 2, reason)


@pytest.mark.parametrize(
    ("place", "state"),
    [
        (f"{RUN}/training_state/step_1", EntryState.THERE),
        (f"{RUN}/training_state/step_1/model.pt", EntryState.THERE),
        (f"{RUN}/training_state/step_2", EntryState.GONE),
        (f"{RUN}/hidden/a", EntryState.UNSEEN),
        (f"{RUN}/hidden", EntryState.UNSEEN),
        ("/data/training_runs_old/run_1", EntryState.UNSEEN),
        ("/elsewhere", EntryState.UNSEEN),
    ],
)
def test_what_a_scan_says_of_a_place(place: str, state: EntryState) -> None:
    """Files and the directories above them are there; what may not be listed, or lies in no tree, can't be told."""
    assert shown(["run_1/training_state/step_1/model.pt"], unreadable=["run_1/hidden"]).of(place) is state


@pytest.mark.parametrize("state", TreeState)
def test_a_tree_that_was_not_listed_says_nothing(state: TreeState) -> None:
    """Nor does one that is empty: the file system that was there may not be mounted."""
    paths = ["run_2/config.yaml"] if state is not TreeState.PRESENT else []
    before: dict[str | None, tuple[LeftOut, ...]] = {"e1": (step(1),)}
    assert kept_on_record(before, {}, shown(paths, state), NOW) == before


def test_what_is_gone_is_marked_and_what_is_there_goes() -> None:
    """A line stays until what it is about came home or has another reason; it says since when it is gone."""
    states = shown(["run_1/training_state/step_1/model.pt", "run_1/training_state/step_3/model.pt"])
    litter = LeftOut(f"{RUN}/x.tmp", 1, 1, "rule: temporary file")
    before = {"e1": (step(1), step(2), step(3, "another reason")), None: (litter,)}
    kept = kept_on_record(before, {"e1": (step(3),)}, states, NOW)
    assert set(kept) == {"e1"}
    again, marked = kept["e1"]
    assert again == step(3)
    assert (marked.place, marked.reason, marked.gone_at) == (step(2).place, step(2).reason, NOW)
    later = kept_on_record({"e1": (again, marked)}, {"e1": (step(3),)}, states, NOW + 5)
    assert later == {"e1": (step(3), marked)}
    assert kept_on_record(later, {"e1": (step(2), step(3))}, states, NOW + 9) == {"e1": (step(2), step(3))}


def test_what_moves_to_another_experiment_is_told_once() -> None:
    """A line that belonged to no experiment belongs to its run's as soon as that is known."""
    assert kept_on_record({None: (step(1),)}, {"e1": (step(1),)}, shown([]), NOW) == {"e1": (step(1),)}


def test_many_that_are_gone_are_counted_together() -> None:
    """A run that rotates its checkpoints for months is no more lines than one whose checkpoints are all there."""
    lines: dict[str | None, tuple[LeftOut, ...]] = {}
    for number in range(3 * MANY):
        states = shown([f"run_1/training_state/step_{number}/model.pt"])
        lines = kept_on_record(lines, {"e1": (step(number),)}, states, NOW + number)
    assert len(lines["e1"]) <= MANY + 2
    assert sum(each.entries for each in lines["e1"]) == 2 * 3 * MANY
    assert sum(each.size or 0 for each in lines["e1"]) == 10 * 3 * MANY
    assert sum(each.gone_at is None for each in lines["e1"]) == 1
