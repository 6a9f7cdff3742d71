"""What is kept of earlier plans and verdicts never differs from what is made anew, whatever happens in between.

`Home.plan` compares each plan with one that is made from nothing; here the evidence of verdicts is compared as well.
"""

import random
from collections.abc import Callable

import pytest
from msgspec.structs import replace

from harvestd.convention.paths import LocalPath
from harvestd.planning.records import FileRecord
from harvestd.planning.requests import Request, RequestKind
from harvestd.planning.run_status import Liveness
from harvestd.safety.accounting import not_here
from harvestd.safety.inputs import Memo, NoMemo
from harvestd.safety.losses import losses_of
from support import box_trees
from support.box_trees import ROOT, Box, Home, T

SECOND = "run_2025-08-21_10-00-00"
UNKNOWN = "run_2025-01-01_00-00-00"
STEPS = 60
TUNED = "qwen2_5_15_gsm8k_finetuned"


class World:
    """Three hosts, two of which may show one storage, and what is known of them here."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)  # noqa: S311  (a reproducible test)
        self.boxes = [Box("gpu-a", "s1"), Box("gpu-b", self.random.choice(["s1", "s2"])), Box("gpu-c", "s3")]
        self.home = Home()
        self.now = 0.0
        self.count = 0

    def files(self) -> list[FileRecord]:
        """Return all records of files."""
        return [file for there in self.home.knowledge.by_target.values() for file in there.values()]

    def write(self, box: Box, run: str) -> None:
        """Write a part of a run or of its evals."""
        leaf = f"eval_runs/{run}_set{self.random.randrange(3)}"
        match self.random.randrange(6):
            case 0:
                box.add_run(f"training_runs/{run}")
            case 1:
                box.add_leaf(f"{leaf}/{TUNED}/step_10_gsm8k/greedy")
                box.file(f"{leaf}/{TUNED}/step_10_gsm8k/greedy/records.jsonl.gz")
            case 2:
                box.add_leaf(f"eval_runs/{TUNED}/step_base{self.random.randrange(2) or ''}_gsm8k/greedy")
            case 3:
                box.file(f"{leaf}/eval_config.yaml", self.random.randrange(100, 200))
                named = self.random.choice([T, SECOND, UNKNOWN])
                box.eval_configs[leaf] = f"/x/training_runs/{named}"
            case 4:
                step, whole = self.random.choice(["step_20", "step_40"]), self.random.random() < 0.8
                box.add_checkpoint(step, f"training_runs/{run}", whole=whole)
            case _:
                box.add_run(f"training_runs/{run}")
                box.finish(f"training_runs/{run}")

    def remove(self, box: Box, _run: str) -> None:
        """Remove a file or a directory from a host."""
        trees = [tree for tree, entries in box.entries.items() if entries]
        if trees:
            tree = self.random.choice(trees)
            parts = self.random.choice(list(box.entries[tree])).parts
            box.entries[tree] = {
                path: entry for path, entry in box.entries[tree].items() if path.parts[: len(parts)] != parts
            }

    def forget(self, _box: Box, _run: str) -> None:
        """Forget a record, as `verify --repair` does for a local file that is damaged."""
        if files := self.files():
            self.home.knowledge.forget_file(self.random.choice(files))

    def ask(self, _box: Box, _run: str) -> None:
        """Make a request by hand."""
        if runs := self.home.knowledge.runs():
            self.count += 1
            key = self.random.choice(runs).key
            possible: list[tuple[RequestKind, dict[str, object]]] = [
                (RequestKind.IGNORE, {}),
                (RequestKind.IGNORE, {"undo": True}),
                (RequestKind.FETCH, {"thing": "records"}),
                (RequestKind.FETCH, {"thing": "step_20"}),
            ]
            kind, detail = self.random.choice(possible)
            settled = self.random.choice([None, 1.0])
            self.home.knowledge.add_request(Request(self.count, kind, *key, 0.0, detail, settled_at=settled))

    def move(self, _box: Box, _run: str) -> None:
        """Rename an experiment's directory, or take it away, or give it back."""
        knowledge = self.home.knowledge
        if not knowledge.experiments():
            return
        before = self.random.choice(knowledge.experiments())
        self.count += 1
        is_renamed = self.random.random() < 0.5
        after = replace(before, moved_to=f"moved{self.count}") if is_renamed else replace(before, gone=not before.gone)
        files, links = knowledge.files_of(before.id), knowledge.links_in(before.directory)
        for file in files:
            knowledge.forget_file(file)
        for path in links:
            knowledge.forget_link(path)
        knowledge.add_experiment(after)
        for file in files if is_renamed else ():
            target = LocalPath((after.directory, *file.target.parts[1:]))
            knowledge.add_file(replace(file, target=target))

    def turn(self, _box: Box, _run: str) -> None:
        """Change what is known of hosts, of processes and of obstacles here, or let time pass."""
        home, chosen = self.home, self.random
        home.liveness = Liveness(
            idle_for=chosen.choice([5.0, 900.0]),
            gpu_processes=chosen.choice([None, 0, 1]),
            hosts=frozenset(chosen.sample(["gpu-a", "gpu-b", "gpu-c"], 2)),
        )
        shown = [f"{ROOT}/eval_runs/{T}_set{number}" for number in range(chosen.randrange(4))]
        home.connected_storages = dict.fromkeys(chosen.sample(["s1", "s2", "s3"], chosen.randrange(3)), shown)
        files = self.files()
        refused = chosen.sample(files, min(len(files), chosen.randrange(2)))
        home.refused = {(file.place, file.target): (file.version, "refused") for file in refused}
        self.now += chosen.choice([1.0, 30.0, 1000.0])

    def look(self, box: Box) -> None:
        """Plan a host, compare the evidence of a verdict, and perhaps do what is planned."""
        home = self.home
        home.learn(box)
        plan = home.plan(box, self.now)
        seen = home.last_survey(box)

        def evidence(memo: Memo) -> tuple[object, object]:
            losses = losses_of(seen, plan, box.storage, home.knowledge, ("gsm8k",), memo)
            return not_here(seen, plan, box.storage, home.knowledge, memo), losses

        memo = home.memo_of(box)
        memo.begin()
        assert evidence(memo) == evidence(NoMemo())
        if self.random.random() < 0.7:
            home.do(plan, box)


@pytest.mark.parametrize("seed", range(6))
def test_what_is_kept_is_what_would_be_made(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Over many steps on hosts that share runs, storages and experiments."""
    monkeypatch.setattr(box_trees, "_FEW", 0)  # other tests plan lazily
    world = World(seed)
    deeds: list[Callable[[Box, str], None]] = [world.write] * 4
    deeds += [world.remove, world.forget, world.forget, world.ask, world.move, world.turn]
    for _ in range(STEPS):
        world.random.choice(deeds)(world.random.choice(world.boxes), world.random.choice([T, SECOND]))
        world.now += 0.5
        for box in world.boxes:
            world.look(box)
