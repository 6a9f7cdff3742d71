"""A box on which anything may happen, watched by looks: it is never called safe while a wanted byte is missing.

Survey, planning, sightings and judging are the real ones. What is wanted is said here once more, by the paths of the
box's files alone and by nothing of theirs; what came home is what plans said, as much of it as the machine likes.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test
from msgspec.structs import replace

from harvestd.convention.circumstances import Outside
from harvestd.convention.evidence import Damaged
from harvestd.convention.facts import TrainingInfo
from harvestd.convention.paths import LocalPath, RemotePath
from harvestd.convention.plan import Plan
from harvestd.convention.snapshot import Entry, EntryType, Listing, Snapshot, Tree, TreeState, Version
from harvestd.convention.stillness import Stillness
from harvestd.convention.survey import survey
from harvestd.convention.verdict import Answer, LossKind, Verdict
from support.box_trees import EVALS, ROOT, TRAINING, Box, Home
from support.judged_boxes import DISK, IDLE, NOBODY, Scene

RUNS = ("run_2025-08-20_03-31-43", "run_2025-08-21_10-00-00")
_IN_CHECKPOINT = ("run", "training_state", "step", "file")
LOOKS_APART = 100.0
"""Seconds between two looks while time passes."""
_QUICK = settings(
    max_examples=120,
    stateful_step_count=30,
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
runs = st.sampled_from(RUNS)
steps = st.sampled_from(["step_20", "step_40"])
evaluated = st.sampled_from(["20", "40", "final", "base"])


class VerdictMachine(RuleBasedStateMachine):
    """One box, one home, and the clock between them."""

    answers: ClassVar[set[Answer]] = set()
    """All that ever came out."""

    def __init__(self) -> None:
        super().__init__()
        self.box = Box()
        self.home = Home()
        self.now = 0.0
        self.connected = True
        self.stillness = Stillness()
        self.last: tuple[Listing, ...] | None = None
        """What the last look of this connection showed."""
        self.moved = 0.0
        """When a look showed something else than the one before it, or there was none before it."""
        self.mounted: dict[Tree, dict[RemotePath, Entry]] | None = None
        """What is on the file system while it is not mounted."""
        self.told = NOBODY
        self.torn: dict[str, int] = {}
        """Bytes after the last whole line, by the place of a log."""
        self.taken: set[LocalPath] = set()
        """What a person took away at home."""
        self.devices: dict[str, int] = {}
        self.device = DISK
        self.began = False

    # what happens on the box

    @property
    def tree(self) -> dict[Tree, dict[RemotePath, Entry]]:
        """What the file system holds, mounted or not."""
        return self.box.entries if self.mounted is None else self.mounted

    def write(self, path: str, size: int, inode: int | None = None) -> None:
        """Write a file now; where the file system is not mounted, below the place where it should be."""
        self.box.file(path, size, age=-self.now, inode=inode)
        self.began = True

    @rule(run=runs)
    def start_run(self, run: str) -> None:
        """Begin a run, or write its config.yaml anew."""
        self.write(f"training_runs/{run}/config.yaml", 2000 + int(self.now) % 5)
        self.write_log(run, 10, 0)

    @rule(run=runs, more=st.integers(1, 500), torn=st.sampled_from([0, 0, 9]))
    def write_log(self, run: str, more: int, torn: int) -> None:
        """Append to a log; its last line may be whole or not."""
        path = f"training_runs/{run}/logs/train_log.jsonl"
        before = self.box.entries.get(TRAINING, {}).get(RemotePath.parse(path.partition("/")[2]))
        size, inode = (before.version.size, before.version.inode) if before else (0, None)
        self.write(path, size + more + torn, inode)
        self.torn[f"{ROOT}/{path}"] = torn

    @rule(run=runs, step=steps, whole=st.booleans())
    def checkpoint(self, run: str, step: str, *, whole: bool) -> None:
        """Write a checkpoint, or all of it but its marker."""
        state = f"training_runs/{run}/training_state/{step}"
        self.write(f"{state}/optimizer.pt", 5000)
        if whole:
            self.write(f"{state}/training_info.json", 90)

    @rule(run=runs)
    def finish(self, run: str) -> None:
        """Write the final checkpoint."""
        self.checkpoint(run, "step_final", whole=True)
        self.box.finals[f"training_runs/{run}"] = TrainingInfo(64, "Qwen/Qwen2.5-1.5B", 1)

    @rule(run=runs, step=evaluated, whole=st.booleans())
    def evaluate(self, run: str, step: str, *, whole: bool) -> None:
        """Make an eval, or begin one."""
        leaf = f"eval_runs/{run}_gsm8k/results/step_{step}_gsm8k/greedy"
        self.write(f"{leaf}/metrics.csv", 700 + int(self.now) % 5)
        if whole:
            self.write(f"{leaf}/run_meta.json", 80)

    @precondition(lambda self: any(self.box.entries.values()))
    @rule(data=st.data())
    def rename_or_remove(self, data: st.DataObject) -> None:
        """Remove a file, or give it another name in its directory, with the same times."""
        files = [(tree, path) for tree, path, _ in self.files(self.box.entries)]
        if not files:
            return
        tree, path = data.draw(st.sampled_from(files))
        entry = self.box.entries[tree].pop(path)
        name = data.draw(st.sampled_from(["", "metrics.csv", "config.yaml", "other.txt"]))
        if name:
            beside = RemotePath((*path.parts[:-1], name))
            self.box.entries[tree][beside] = Entry(beside, EntryType.FILE, entry.version)

    @precondition(lambda self: self.mounted is None)
    @rule(there=st.booleans())
    def unmount(self, *, there: bool) -> None:
        """Let the file system go; the root's directory may stay, on another device."""
        self.mounted, self.box.entries, self.device = self.box.entries, {}, DISK + 1
        state = TreeState.NO_TREE if there else TreeState.NO_ROOT
        self.box.states = dict.fromkeys(self.box.trees, state)

    @precondition(lambda self: self.mounted is not None)
    @rule()
    def mount(self) -> None:
        """Have it back: what was written below it meanwhile can't be seen."""
        assert self.mounted is not None
        self.box.entries, self.mounted, self.device = self.mounted, None, DISK
        self.box.states = {}

    @rule(who=st.sampled_from(["log_ins", "gpu_processes", "transfers"]), count=st.sampled_from([0, 0, 1, None]))
    def come_and_go(self, who: str, count: int | None) -> None:
        """Let people and programs come and go."""
        changes: dict[str, Any] = {who: count}
        self.told = replace(self.told, **changes)

    @rule(outside=st.sampled_from([Outside(0, 0), Outside(2, 10), None]))
    def write_outside(self, outside: Outside | None) -> None:
        """Write files outside the roots."""
        self.told = replace(self.told, outside=outside)

    # what happens here

    @rule(seconds=st.sampled_from([1.0, 60.0, 500.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        """Let time pass, with looks in between where there is a link."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + LOOKS_APART)
            if self.connected:
                self.look()

    @rule()
    def lose_the_link(self) -> None:
        """Lose the link."""
        self.connected, self.last = False, None
        self.stillness = Stillness()
        self.home.lose(self.box)

    @rule()
    def connect(self) -> None:
        """Have it back."""
        self.connected = True

    def look(self) -> Snapshot:
        """Look at the box as a daemon does."""
        snapshot = self.box.snapshot(self.now)
        changed = snapshot.listings != self.last
        if changed:
            self.moved = self.now
        self.last = snapshot.listings
        self.stillness.looked(snapshot if changed else replace(snapshot, changed=False), self.now, LOOKS_APART)
        seen = survey(snapshot, self.home.selection)
        for tree in {run.tree for run in seen.runs} | {each.tree for each in seen.evals}:
            self.devices.setdefault(str(tree), self.device)
        self.home.learn(self.box)
        return snapshot

    @precondition(lambda self: self.connected)
    @rule(most=st.integers(0, 6))
    def harvest(self, most: int) -> None:
        """Bring some of what is wanted home."""
        self.look()
        plan = self.home.plan(self.box, self.now)
        self.bring(replace(plan, groups=plan.groups[:most], follows=plan.follows[:most], checks=plan.checks[:most]))

    @precondition(lambda self: self.connected)
    @rule()
    def harvest_all(self) -> None:
        """Bring all of it."""
        for _ in range(4):
            self.look()
            self.bring(self.home.plan(self.box, self.now))

    def bring(self, plan: Plan) -> None:
        """Do what a plan says; of a line that is not whole, nothing comes."""
        self.home.do(replace(plan, follows=()), self.box)
        for follow in plan.follows:
            torn = 0 if follow.whole else self.torn.get(follow.place, 0)
            self.home.follow(follow.place, plan, self.box, torn=torn)
        self.taken -= {target.path for group in plan.groups for file in group.files for target in file.targets}

    @rule(data=st.data())
    def take_away_at_home(self, data: st.DataObject) -> None:
        """Let a person remove a file that came."""
        files = sorted(file.target for file in self.home.knowledge.files_from(self.box.storage))
        if files:
            self.taken.add(data.draw(st.sampled_from(files)))

    # what is said of it

    @rule()
    def judge(self) -> None:
        """Make a verdict now; whatever it says, it must not lose anything."""
        self.hold(self.verdict())

    @precondition(lambda self: self.connected)
    @rule()
    def settle_down_and_judge(self) -> None:
        """Let nothing happen for long enough, bring all, and make a verdict."""
        self.harvest_all()
        self.time_passes(1000.0)
        self.harvest_all()
        self.hold(self.verdict())

    def verdict(self) -> Verdict:
        """Give it, by a whole look."""
        if self.connected:
            self.look()
        files = {file.target: file for file in self.home.knowledge.files_from(self.box.storage)}
        return Scene(
            box=self.box,
            home=self.home,
            connected=self.connected,
            now=self.now,
            quiet=self.stillness.quiet,
            seen=self.began,
            devices=self.devices,
            devices_now=dict.fromkeys(self.box.trees, self.device),
            told=self.told,
            damaged=tuple(Damaged(path, files[path].size) for path in sorted(self.taken) if path in files),
        ).verdict()

    def hold(self, verdict: Verdict) -> None:
        """Hold a verdict against what is true."""
        self.answers.add(verdict.answer)
        if verdict.answer is Answer.NOT_SAFE:
            return
        assert self.connected
        assert self.mounted is None
        assert self.now - self.moved >= IDLE
        assert (self.told.gpu_processes, self.told.log_ins, self.told.transfers) == (0, 0, 0)
        missing = [place for place, version in self.wanted() if not self.is_here(place, version)]
        assert not missing
        lost = {loss.kind for loss in verdict.losses}
        assert LossKind.OUTSIDE_FILES in lost or (self.told.outside == Outside(0, 0) and not self.has_stray_logs())
        unseen = [place for place, version in self.checkpoints() if not self.is_here(place, version)]
        assert LossKind.CHECKPOINTS in lost or not unseen

    def has_stray_logs(self) -> bool:
        """Tell whether a log stands in a directory that is no run: nobody brings it."""
        logs = [(path, version) for tree, path, version in self.files(self.tree) if tree == TRAINING]
        return any(
            path.parts[1:] == ("logs", "train_log.jsonl")
            and version.size
            and RemotePath((path.parts[0], "config.yaml")) not in self.tree[TRAINING]
            for path, version in logs
        )

    @staticmethod
    def files(tree: dict[Tree, dict[RemotePath, Entry]]) -> Iterator[tuple[Tree, RemotePath, Version]]:
        """Give all files of a file system."""
        for each, entries in sorted(tree.items()):
            for path, entry in sorted(entries.items()):
                if entry.type is EntryType.FILE:
                    yield each, path, entry.version

    def wanted(self) -> Iterator[tuple[str, Version]]:
        """Give the place and the version of every file that is always wanted."""
        for tree, path, version in self.files(self.tree):
            below, home = path.parts[1:], RemotePath((path.parts[0], "config.yaml"))
            if tree == TRAINING:
                is_run = home in self.tree[TRAINING]
                final = below[:2] == ("training_state", "step_final") and below[-1] in {
                    "optimizer.pt",
                    "training_info.json",
                }
                if is_run and (below in {("config.yaml",), ("logs", "train_log.jsonl")} or final):
                    yield f"{tree}/{path}", version
            elif path.name in {"metrics.csv", "run_meta.json"}:
                leaf = RemotePath((*path.parts[:-1], "metrics.csv"))
                if leaf in self.tree[EVALS]:
                    yield f"{tree}/{path}", version

    def checkpoints(self) -> Iterator[tuple[str, Version]]:
        """Give the files of checkpoints, of whatever run or husk, of whose step no eval of the run is on the box."""
        for tree, path, version in self.files(self.tree):
            if tree == TRAINING and path.parts[1:2] == ("training_state",) and len(path.parts) == len(_IN_CHECKPOINT):
                step = path.parts[2].removeprefix("step_")
                leaf = RemotePath((f"{path.parts[0]}_gsm8k", "results", f"step_{step}_gsm8k", "greedy", "metrics.csv"))
                if leaf not in self.tree.get(EVALS, {}):
                    yield f"{tree}/{path}", version

    def is_here(self, place: str, version: Version) -> bool:
        """Tell whether all bytes of this version of a file stand at home."""
        copies = self.home.knowledge.copies(self.box.storage, place)
        return any(
            copy.version == version and copy.size == version.size and copy.target not in self.taken for copy in copies
        )


def test_never_safe_while_anything_is_missing() -> None:
    """Whatever happens, in whatever order; and every answer is given to some of it."""
    VerdictMachine.answers.clear()
    run_state_machine_as_test(VerdictMachine, settings=_QUICK)
    assert VerdictMachine.answers == set(Answer)
