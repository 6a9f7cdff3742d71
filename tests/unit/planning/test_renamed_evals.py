"""By what an eval is known again under another name, and when it is not."""

from collections.abc import Callable

import pytest
from msgspec.structs import replace

from harvestd.convention.paths import RemotePath
from harvestd.convention.rules import Selection
from harvestd.convention.scan.classify import survey
from harvestd.convention.scan.snapshot import Tree, TreeKind, TreeState
from harvestd.planning.plan import Plan
from harvestd.planning.renamed import EvalsOnHost, RenamedEval, is_gone, moved_evals
from support.box_trees import DIRECTORY, EVALS, ROOT, TRAINING, Box, Home, T

OLD = f"eval_runs/{T}"
NEW = f"{OLD}_second"
LEAF = "qwen2_5_15_gsm8k_finetuned/step_2_gsm8k/temp0.7"
SECOND = Tree("/second", "eval_runs", TreeKind.EVAL)


def rename(box: Box, old: str, new: str) -> None:
    """Rename a directory in the eval trees: each file keeps its version."""
    (old_tree, old_path), (new_tree, new_path) = box.place(old), box.place(new)
    entries = box.entries[old_tree]
    moved = {path: entry for path, entry in entries.items() if path == old_path or path.below(old_path)}
    box.entries[old_tree] = {path: entry for path, entry in entries.items() if path not in moved}
    for path, entry in moved.items():
        there = RemotePath((*new_path.parts, *path.parts[len(old_path.parts) :]))
        box.entries.setdefault(new_tree, {})[there] = replace(entry, path=there)


def evaluated() -> tuple[Box, Home, EvalsOnHost]:
    """Return a host with two evals of a run, all of it at home, and what is known of it after the first scan."""
    box, home = Box(trees=(TRAINING, EVALS, SECOND)), Home()
    box.add_run()
    box.file(f"{OLD}/eval_config.yaml")
    for number, leaf in enumerate((LEAF, LEAF.replace("step_2", "step_4"))):
        box.add_leaf(f"{OLD}/{leaf}", age=3600.0 + number)
    home.settle_all([box])
    evals = EvalsOnHost(box.storage, home.knowledge)
    assert not looked(evals, box)
    return box, home, evals


def looked(evals: EvalsOnHost, box: Box) -> list[RenamedEval]:
    """Return what the next scan makes candidates."""
    snapshot = box.snapshot()
    return evals.record_scan(survey(snapshot, Selection()).evals, snapshot)


def moved(box: Box, home: Home, found: list[RenamedEval]) -> list[str]:
    """Put proven ones on record; return the places of their files, from the tree on."""
    snapshot = box.snapshot()
    files = moved_evals(found, survey(snapshot, Selection()).evals, snapshot, box.storage, home.knowledge)
    for file in files:
        home.knowledge.add_file(file)
    return sorted(file.place.removeprefix(f"{ROOT}/") for file in files)


def done(box: Box, home: Home) -> list[Plan]:
    """Do what is planned for a host until nothing is; return the plans."""
    plans: list[Plan] = []
    while not (plan := home.plan(box, len(plans) + 1.0)).is_empty:
        home.do(plan, box)
        plans.append(plan)
    return plans


def test_a_directory_and_a_leaf_are_known_again() -> None:
    """Where they are now: below another name, below another root, or one of its steps alone."""
    for old, new in (
        (OLD, NEW),
        (OLD, f"{SECOND}/{T}"),
        (f"{OLD}/{LEAF.rpartition('/')[0]}", f"{OLD}/{LEAF.rpartition('/')[0]}".replace("step_2", "step_8")),
    ):
        box, home, evals = evaluated()
        rename(box, old, new)
        (found,) = looked(evals, box)
        place = new if new.startswith("/") else f"{ROOT}/{new}"
        assert (found.before, found.after) == (f"{ROOT}/{old}", place)
        files = moved(box, home, [found])
        assert len(files) == (5 if old == OLD else 2)
        plans = done(box, home)
        assert all(not plan.groups for plan in plans)
        targets = sorted(str(file.target) for file in home.knowledge.files_from(box.storage))
        assert len(targets) == 7
        name = new.rpartition("/")[2] if old == OLD else T
        assert all(
            target.startswith((f"{DIRECTORY}/eval_results/{name}/", f"{DIRECTORY}/training_run/")) for target in targets
        )
        assert all(file.version.ctime_ns for file in home.knowledge.files_from(box.storage))
        assert not looked(evals, box)


def test_one_renamed_before_the_first_scan_is_known() -> None:
    """By what is on record, and not only by what an earlier scan showed."""
    box, home, _ = evaluated()
    rename(box, OLD, NEW)
    (found,) = looked(EvalsOnHost(box.storage, home.knowledge), box)
    assert found.after == f"{ROOT}/{NEW}"
    assert found.proof.record.place.startswith(f"{ROOT}/{OLD}/")


def _copied(box: Box) -> None:
    rename(box, f"{NEW}/{LEAF}", f"{OLD}/{LEAF}")
    box.add_leaf(f"{NEW}/{LEAF}")


def _changed(box: Box) -> None:
    box.file(f"{NEW}/{LEAF}/metrics.csv", 1200, age=1.0)


def _denied(box: Box) -> None:
    box.states[EVALS] = TreeState.DENIED


def _shut(box: Box) -> None:
    box.shut(OLD)


@pytest.mark.parametrize("change", [_copied, _changed, _denied, _shut])
def test_nothing_is_guessed(change: Callable[[Box], None]) -> None:
    """A copy beside the first, another time, a tree that can't be listed, and a directory that can't."""
    box, _, evals = evaluated()
    rename(box, f"{OLD}/{LEAF}", f"{NEW}/{LEAF}")
    change(box)
    assert not looked(evals, box)


def test_of_several_that_vanished_the_inode_tells_which_is_meant() -> None:
    """Files that were unpacked have whole seconds, and may be of one size."""
    box, home, evals = evaluated()
    other = f"{OLD}/{LEAF}".replace("step_2", "step_4")
    box.file(f"{other}/metrics.csv", 1200, age=3605.0)
    done(box, home)
    assert not looked(evals, box)
    rename(box, OLD, NEW)
    assert [each.after for each in looked(evals, box)] == [f"{ROOT}/{NEW}"]
    box, home, evals = evaluated()
    box.file(f"{other}/metrics.csv", 1200, age=3605.0)
    done(box, home)
    assert not looked(evals, box)
    rename(box, OLD, NEW)
    for leaf in (f"{OLD}/{LEAF}", other):
        box.file(f"{leaf.replace(OLD, NEW)}/metrics.csv", 1200, age=3605.0)
    assert not looked(evals, box)


def test_what_changed_or_is_gone_is_no_part_of_a_renamed_eval() -> None:
    """It comes as a file of its own; what stands at home of the former one stays, and is on record."""
    box, home, evals = evaluated()
    rename(box, OLD, NEW)
    box.remove(f"{NEW}/eval_config.yaml")
    box.file(f"{NEW}/{LEAF}/run_meta.json", 400, age=3000.0)
    files = moved(box, home, looked(evals, box))
    assert f"{NEW}/{LEAF}/run_meta.json" not in files
    assert len(files) == 3
    done(box, home)
    kept = {str(file.target) for file in home.knowledge.files_from(box.storage)}
    results = f"{DIRECTORY}/eval_results"
    assert {f"{results}/{T}/eval_config.yaml", f"{results}/{T}/{LEAF}/run_meta.json"} <= kept
    assert f"{results}/{T}_second/{LEAF}/run_meta.json" in kept


def test_a_file_is_gone_only_where_its_directory_was_listed() -> None:
    """Not in another tree, nor below what can't be read."""
    box = Box()
    box.add_leaf(f"{OLD}/{LEAF}")
    place = f"{ROOT}/{OLD}/{LEAF}/metrics.csv"
    assert not is_gone(place, box.snapshot())
    assert is_gone(f"{place}.old", box.snapshot())
    assert not is_gone("/elsewhere/metrics.csv", box.snapshot())
    box.shut(f"{OLD}/closed")
    assert not is_gone(f"{ROOT}/{OLD}/closed/metrics.csv", box.snapshot())
