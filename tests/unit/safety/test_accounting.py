"""Every wanted file is accounted for by its record: held against plans that bring nothing, as if planning failed."""

from collections.abc import Callable, Hashable
from dataclasses import replace
from typing import Any

from msgspec import structs

from harvestd.convention.eval_names import DATASETS
from harvestd.convention.scan.classify import survey
from harvestd.convention.scan.model import EvalDir, LeftOut, RunDir
from harvestd.planning.plan import Plan
from harvestd.planning.run_status import Liveness
from harvestd.safety.accounting import not_here
from harvestd.safety.inputs import NoMemo, NotHere
from harvestd.safety.losses import accounting_for, losses_of
from support.box_trees import ROOT
from support.judged_boxes import LEAF, RUN, Scene, drained

LOG = f"{RUN}/logs/train_log.jsonl"
LINE = 7
"""Bytes of an unfinished last line."""


def missing(scene: Scene, plan: Plan | None = None) -> dict[str, NotHere]:
    """Return what is not here, by its path from the tree on, beside what a plan brings (nothing unless given)."""
    found = not_here(
        survey(scene.box.snapshot(), scene.home.selection),
        plan or Plan(),
        scene.box.storage,
        scene.home.knowledge,
        NoMemo(),
    )
    return {each.place.removeprefix(f"{ROOT}/"): each for each in found}


def test_nothing_is_missing_of_a_drained_box() -> None:
    """All that is wanted has its record, in the version that the box shows."""
    assert missing(drained()) == {}


def test_another_version_is_not_here() -> None:
    """What was brought before a file was written anew is no proof for what it holds now."""
    scene = drained()
    scene.box.file(f"{LEAF}/metrics.csv", 1200, age=3605.0)
    found = missing(scene)
    assert set(found) == {f"{LEAF}/metrics.csv"}
    assert not found[f"{LEAF}/metrics.csv"].hindered
    assert missing(scene, scene.home.plan(scene.box)) == {}


def test_what_nobody_plans_is_missing() -> None:
    """A file without a record, and that no plan names, is told though nothing else would."""
    scene = drained()
    scene.box.add_leaf(f"{LEAF}_2")
    assert set(missing(scene)) == {f"{LEAF}_2/metrics.csv", f"{LEAF}_2/run_meta.json"}


def test_an_unfinished_line_is_missing() -> None:
    """This version of a log was read, but not all of its bytes are here."""
    scene = drained()
    scene.box.grow(LOG, LINE)
    scene.home.follow(f"{ROOT}/{LOG}", scene.home.plan(scene.box), scene.box, torn=LINE)
    found = missing(scene)
    assert {path: each.size for path, each in found.items()} == {LOG: LINE}


def test_a_rule_has_a_line_for_each_file() -> None:
    """A line for one file excuses that one, and none that is beside or below it."""
    scene = drained()
    scene.box.file(f"{LEAF}/metrics.csv", 77)
    line = LeftOut(f"{ROOT}/{LEAF}/metrics.csv", 77, 1, "the first one stands")
    above = replace(line, place=f"{ROOT}/{LEAF}")
    assert missing(scene, Plan(left_out={None: (line,)})) == {}
    assert set(missing(scene, Plan(left_out={None: (above,)}))) == {f"{LEAF}/metrics.csv"}


def test_what_is_hindered_is_told_whatever_it_is() -> None:
    """A part of a checkpoint, which nobody looks for elsewhere, counts as well."""
    scene = drained()
    place = f"{RUN}/training_state/step_final/optimizer.pt"
    line = LeftOut(f"{ROOT}/{place}", 9, 1, "its place at home is taken", hindered=True)
    assert missing(scene, Plan(left_out={None: (line,)}))[place].hindered


def test_a_dead_run_leaves_its_last_line() -> None:
    """A run that died in the middle of a line has its log brought to the last byte, without any checkpoint too."""
    scene = Scene()
    scene.box.add_run(RUN)
    scene.home.learn(scene.box)
    plan = scene.home.plan(scene.box)
    scene.home.do(structs.replace(plan, follows=()), scene.box)
    scene.home.follow(f"{ROOT}/{LOG}", plan, scene.box, torn=LINE)
    unknown = scene.home.plan(scene.box, 1000.0)
    assert not unknown.follows
    scene.home.liveness = Liveness(idle_for=900.0, gpu_processes=None)
    asking = scene.home.plan(scene.box, 1000.0)
    assert asking.needs_liveness
    assert not asking.follows
    scene.home.liveness = Liveness(idle_for=900.0, gpu_processes=0)
    (follow,) = scene.home.plan(scene.box, 1000.0).follows
    assert follow.whole
    assert follow.size == LINE


class CountingMemo:
    """Keeps every value, and counts those that had to be computed."""

    def __init__(self) -> None:
        self.values: dict[tuple[str, int], Any] = {}
        self.computed = 0

    def of(self, what: str, directory: RunDir | EvalDir, _basis: Hashable, compute: Callable[[], Any]) -> Any:  # noqa: ANN401
        """Return the value for this directory."""
        key = what, id(directory)
        if key not in self.values:
            self.computed += 1
            self.values[key] = compute()
        return self.values[key]


def test_a_verdict_adds_up_what_was_accounted_for_in_slices() -> None:
    """Each directory is a slice of its own; the verdict itself computes none of them again."""
    scene, memo = drained(), CountingMemo()
    seen = survey(scene.box.snapshot(), scene.home.selection)
    account = (seen, Plan(), scene.box.storage, scene.home.knowledge)
    slices = sum(1 for _ in accounting_for(*account, DATASETS, memo))
    assert slices == len(seen.runs) + len(seen.evals) > 1
    computed = memo.computed
    losses_of(*account, DATASETS, memo)
    not_here(*account, memo)
    assert memo.computed == computed
