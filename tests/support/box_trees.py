"""A made-up box as the planner sees it, and a home that does what its plans say: no link, no disk, no clock.

Paths are written from the tree on, "training_runs/run_…/config.yaml"; those in other roots are absolute. All times are
seconds before the box's present, or after it where negative.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from itertools import count

from msgspec.structs import replace

from harvestd.convention.metadata.naming import NamingContext, NamingFacts, free_name, name_run
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.paths import LocalPath, RemotePath
from harvestd.convention.rules import Selection
from harvestd.convention.scan.classify import Surveyor, survey
from harvestd.convention.scan.model import ScanResult
from harvestd.convention.scan.snapshot import (
    Delta,
    Entry,
    EntryType,
    Listing,
    Snapshot,
    Tree,
    TreeKind,
    TreeState,
    Version,
)
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.planning.host_plan.planner import HostPlanner, make_plan
from harvestd.planning.host_plan.situation import Situation
from harvestd.planning.index import PlanningIndex
from harvestd.planning.plan import Plan
from harvestd.planning.records import EvalLink, ExperimentRecord, FileRecord, RunRecord
from harvestd.planning.run_status import Liveness
from harvestd.safety.inputs import DirectoryMemo
from support.forgetful import evaluated_lazily

ROOT = "/home/ubuntu/localfs"
TRAINING = Tree(ROOT, "training_runs", TreeKind.TRAINING)
EVALS = Tree(ROOT, "eval_runs", TreeKind.EVAL)
PRESENT = 1_755_700_000.0
"""Unix seconds on the box's clock at the first look."""
MIB = 1024 * 1024
_FEW = 500
"""Files here up to which each plan is also made lazily."""
SAME_CONTENT = "0" * 64
GROWING = "f" * 64
"""Hashes of files that did not grow, unless a test says so, and of those that did."""
T = "run_2025-08-20_03-31-43"
DIRECTORY = "baseline_training_2025-08-20_qwen2_5_1_5b_h100_64steps"
QWEN = ConfigFacts("Qwen/Qwen2.5-1.5B", "qwen2_5_15", 64, "gsm8k")
"""What the config.yaml of the run T says, unless a test says otherwise."""


@dataclass
class Box:
    """One host: what its trees hold now."""

    name: str = "gpu-a"
    storage: str = "static:gpu-a"
    trees: tuple[Tree, ...] = (TRAINING, EVALS)
    entries: dict[Tree, dict[RemotePath, Entry]] = field(default_factory=dict)
    unreadable: dict[Tree, list[RemotePath]] = field(default_factory=dict)
    configs: dict[str, ConfigFacts] = field(default_factory=dict)
    """What each run's config.yaml says, by the run's path; None of a run: `QWEN`."""
    finals: dict[str, TrainingInfo] = field(default_factory=dict)
    """What step_final's training_info.json says, by the run's path."""
    eval_configs: dict[str, str | None] = field(default_factory=dict)
    """The training_run of each eval_config.yaml, by the eval directory's path."""
    filesystem: str = "ext4"
    states: dict[Tree, TreeState] = field(default_factory=dict)
    _inodes: "count[int]" = field(default_factory=lambda: count(100))

    def place(self, path: str) -> tuple[Tree, RemotePath]:
        """Split a path into its tree and what is below it."""
        for tree in self.trees:
            for way in (f"{tree.name}/", f"{tree}/"):
                if path.startswith(way):
                    return tree, RemotePath.parse(path.removeprefix(way))
        raise AssertionError(f"no tree holds {path}")

    def put(self, path: str, kind: EntryType, version: Version, target: str | None = None) -> None:
        """Set an entry, with the directories above it."""
        tree, below = self.place(path)
        entries = self.entries.setdefault(tree, {})
        for depth in range(1, len(below.parts)):
            above = RemotePath(below.parts[:depth])
            entries.setdefault(above, Entry(above, EntryType.DIRECTORY, Version(0, 0)))
        entries[below] = Entry(below, kind, version, target)

    def file(self, path: str, size: int = 100, *, age: float = 3600.0, inode: int | None = None) -> None:
        """Write a file that was changed `age` seconds ago for the last time."""
        changed = int((PRESENT - age) * 1e9)
        inode = next(self._inodes) if inode is None else inode
        self.put(path, EntryType.FILE, Version(size, changed, changed, inode))

    def files(self, *paths: str) -> None:
        """Write some files of any content."""
        for path in paths:
            self.file(path)

    def grow(self, path: str, more: int) -> None:
        """Append to a file, now."""
        tree, below = self.place(path)
        before = self.entries[tree][below].version
        self.file(path, before.size + more, age=0.0, inode=before.inode)

    def link(self, path: str, target: str) -> None:
        """Make a symbolic link."""
        self.put(path, EntryType.LINK, Version(0, 0), target)

    def special(self, path: str) -> None:
        """Make a FIFO, a socket or a device."""
        self.put(path, EntryType.OTHER, Version(0, 0))

    def pruned(self, path: str, size: int = -1) -> None:
        """Make a directory that is counted, but not walked."""
        self.put(path, EntryType.PRUNED, Version(size, 0))

    def directory(self, path: str) -> None:
        """Make an empty directory."""
        self.put(path, EntryType.DIRECTORY, Version(0, 0))

    def shut(self, path: str) -> None:
        """Make a directory that may not be listed."""
        self.directory(path)
        tree, below = self.place(path)
        self.unreadable.setdefault(tree, []).append(below)

    def remove(self, path: str) -> None:
        """Remove one entry."""
        tree, below = self.place(path)
        del self.entries[tree][below]

    def version(self, path: str) -> Version:
        """Return what fstat shows of a file."""
        tree, below = self.place(path)
        return self.entries[tree][below].version

    def snapshot(self, seconds: float = 0.0) -> Snapshot:
        """Return what the box shows `seconds` after the first look."""
        listings = tuple(
            Listing(
                tree,
                self.states.get(tree, TreeState.PRESENT),
                filesystem=self.filesystem,
                entries=dict(self.entries.get(tree, {})),
                unreadable=tuple(self.unreadable.get(tree, ())),
            )
            for tree in self.trees
        )
        return Snapshot(listings, int((PRESENT + seconds) * 1e9))

    def add_run(self, path: str = f"training_runs/{T}", config: ConfigFacts = QWEN) -> None:
        """Write a run that has begun: its config and its log."""
        self.configs[path] = config
        self.file(f"{path}/config.yaml", 2000)
        self.file(f"{path}/logs/train_log.jsonl", 5000)

    def add_checkpoint(self, step: str, path: str = f"training_runs/{T}", *, whole: bool = True) -> None:
        """Write a checkpoint; its marker is missing where it is not whole."""
        for name in ("model/adapter_model.safetensors", "optimizer.pt"):
            self.file(f"{path}/training_state/{step}/{name}", 50 * MIB, age=3700)
        if whole:
            self.file(f"{path}/training_state/{step}/training_info.json", 900, age=3600)

    def finish(self, path: str = f"training_runs/{T}", step: int = 64) -> None:
        """Write step_final and say in it that the run is over."""
        self.add_checkpoint("step_final", path)
        self.finals[path] = TrainingInfo(step, "Qwen/Qwen2.5-1.5B", 1)

    def add_leaf(self, path: str, *, marker: str = "run_meta.json", age: float = 3600.0) -> None:
        """Write one eval, its files in the order in which the eval program writes them."""
        self.file(f"{path}/metrics.csv", 1200, age=age + 5)
        if marker:
            self.file(f"{path}/{marker}", 300, age=age)


_stamps = count(1)


def stamped(snapshot: Snapshot, last: Snapshot | None) -> Snapshot:
    """Return a snapshot as the probe's client gives it, which says what changed since `last`, if that is known."""
    before = {} if last is None else {each.tree: each for each in last.listings}
    return replace(snapshot, listings=tuple(_stamped(each, before.get(each.tree)) for each in snapshot.listings))


def _stamped(listing: Listing, last: Listing | None) -> Listing:
    if last is not None and list(last.entries.items()) == list(listing.entries.items()):
        return replace(listing, entries=last.entries, stamp=last.stamp, delta=last.delta)
    if last is None:
        return replace(listing, stamp=next(_stamps), delta=None)
    new = [path for path in listing.entries if path in last.entries]
    gone = [path for path in last.entries if path not in listing.entries]
    position = 0
    for path in last.entries:
        if position < len(new) and path == new[position]:
            position += 1
        elif path in listing.entries:
            gone.append(path)  # it was removed and added again: it is further behind
    moved = set(gone)
    changed = [path for path in new if path not in moved and listing.entries[path] != last.entries[path]]
    changed += [path for path in listing.entries if path in moved or path not in last.entries]
    return replace(listing, stamp=next(_stamps), delta=Delta(last.stamp, tuple(gone), tuple(changed)))


class Home:
    """What is known at home of all boxes; does what plans say."""

    def __init__(self, selection: Selection | None = None, *, settle: float = 10.0) -> None:
        self.knowledge = PlanningIndex()
        self.selection = selection or Selection()
        self.settle = settle
        self.liveness = Liveness()
        """What tells whether a run has died; nothing does, unless a test says so."""
        self.failing: set[str] = set()
        self.connected_storages: dict[str, list[str]] = {}
        """By the storage of another host that is connected: the places of the evals that it shows."""
        self.refused: dict[tuple[str, LocalPath], tuple[Version, str]] = {}
        self.hashes: dict[str, str] = {}
        """By place: what a host says is the hash of a file, where it is another one than expected."""
        self.content: Callable[[Version], str] = lambda _: SAME_CONTENT
        """The hash of a file, by its version."""
        self._sightings: dict[str, StabilityTracker] = {}
        self._surveyors: defaultdict[str, Surveyor] = defaultdict(Surveyor)
        self._memos: dict[str, DirectoryMemo] = {}
        self._surveys: dict[str, ScanResult] = {}
        self._snapshots: dict[str, Snapshot] = {}
        self._planners: defaultdict[str, HostPlanner] = defaultdict(HostPlanner)

    def learn(self, box: Box) -> None:
        """Name all runs that have a config.yaml, and read the eval_config.yaml files."""
        seen = survey(box.snapshot(), self.selection)
        for run in seen.runs:
            if run.config is None or self.knowledge.run_at(box.storage, run.place):
                continue
            path = run.place.removeprefix(ROOT + "/")
            config, final = box.configs.get(path, QWEN), box.finals.get(path)
            name = name_run(run.name, NamingFacts(config, final), NamingContext(box.name, hardware="h100"))
            name = free_name(name, run.name, box.name, self.knowledge.is_directory_taken)
            identity = f"{box.storage}:{path}"
            self.knowledge.add_experiment(ExperimentRecord(identity, name))
            self.knowledge.add_run(
                RunRecord(
                    identity, box.storage, run.place, box.name, run.name.name, config, run.config.version, identity
                )
            )
        for run in seen.runs:
            record = self.knowledge.run_at(box.storage, run.place)
            final = box.finals.get(run.place.removeprefix(ROOT + "/"))
            if record and final:
                self.knowledge.add_run(replace(record, final=final))
        for each in seen.evals:
            path = each.place.removeprefix(ROOT + "/")
            if each.config and path in box.eval_configs:
                link = EvalLink(box.storage, each.config.place, each.config.version, box.eval_configs[path])
                self.knowledge.add_eval_link(link)

    def memo_of(self, box: Box) -> DirectoryMemo:
        """Return what is kept of the evidence for verdicts on a box that was planned."""
        return self._memos.setdefault(box.name, DirectoryMemo(self._planners[box.name]))

    def last_survey(self, box: Box) -> ScanResult:
        """Return what the last plan of a box was made from."""
        return self._surveys[box.name]

    def lose(self, box: Box) -> None:
        """Lose the link: for how long files were seen as they are is forgotten."""
        self._sightings.pop(box.name, None)
        self._snapshots.pop(box.name, None)
        self._planners.pop(box.name, None)
        self._surveys.pop(box.name, None)
        self._memos.pop(box.name, None)

    def plan(self, box: Box, seconds: float = 0.0) -> Plan:
        """Plan the box `seconds` after the first look at it, as a daemon does that planned it before."""
        sightings = self._sightings.setdefault(box.name, StabilityTracker())
        snapshot = stamped(box.snapshot(seconds), self._snapshots.get(box.name))
        self._snapshots[box.name] = snapshot
        sightings.update(snapshot, seconds)
        situation = Situation(
            host=box.name,
            storage=box.storage,
            knowledge=self.knowledge,
            selection=self.selection,
            sightings=sightings,
            settle=self.settle,
            now=seconds,
            refused=self.refused,
            liveness=self.liveness,
            failing=self.failing,
            connected_storages=self.connected_storages,
        )
        seen = self._surveyors[box.name].survey(snapshot, self.selection)
        # Of a box on which nothing changed the daemon keeps what it saw.
        before = self._surveys.get(box.name)
        self._surveys[box.name] = seen = before if before is not None and before == seen else seen
        plan = self._planners[box.name].plan(seen, situation)
        # What is kept of earlier plans changes nothing.
        assert plan == make_plan(survey(snapshot, self.selection), situation)
        if sum(map(len, self.knowledge.by_target.values())) < _FEW:
            # Nor does it if each file is loaded only when the planner needs it.
            planner = HostPlanner()
            lazy = evaluated_lazily(
                self.knowledge, lambda index: planner.plan(seen, replace(situation, knowledge=index))
            )
            assert lazy == plan
        return plan

    def do(self, plan: Plan, box: Box) -> None:
        """Do what the plan says, as if every byte came as it was planned."""
        self._tidy(plan)
        for check in plan.checks:
            sha256 = self.hashes.get(check.place, self.content(check.source.version))
            if check.requested_by is not None:
                self.knowledge.add_hash(check.requested_by, check.place, check.source.version, sha256, check.record)
            elif sha256 != check.record.sha256:
                self.knowledge.add_file(replace(check.record, differs=check.source.version))
            else:
                self.knowledge.add_file(replace(check.record, version=check.source.version))
        for group in plan.groups:
            for file in group.files:
                for target in file.targets:
                    self.knowledge.add_file(
                        FileRecord(
                            storage=box.storage,
                            place=file.source.place,
                            target=target.path,
                            host=box.name,
                            experiment=target.experiment,
                            kind=file.kind,
                            version=file.source.version,
                            size=file.source.version.size,
                            sha256=self.content(file.source.version),
                            fetched_at=0.0,
                            reason=file.reason,
                            marker=file.marker,
                        )
                    )
        for follow in plan.follows:
            self.follow(follow.source.place, plan, box, torn=0)

    def _tidy(self, plan: Plan) -> None:
        for refile in plan.refiles:
            moved = replace(refile.record, target=refile.target.path, experiment=refile.target.experiment)
            self.knowledge.forget_file(refile.record)
            self.knowledge.add_file(moved)
        for link in plan.links:
            self.knowledge.add_link(link.path, link.target)
        for removal in plan.removals:
            for file in removal.files:
                self.knowledge.forget_file(file)
            for path, target in self.knowledge.links_in(removal.directory.parts[0]).items():
                if target == removal.directory.name:
                    self.knowledge.add_link(path, removal.newer)
        for remark in plan.remarks:
            self.knowledge.add_file(replace(remark.record, reason=remark.reason))

    def follow(self, place: str, plan: Plan, box: Box, *, torn: int) -> None:
        """Append to one growing file; `torn`: bytes of an unfinished last line, which stay away."""
        follow = next(each for each in plan.follows if each.place == place)
        self.knowledge.add_file(
            FileRecord(
                storage=box.storage,
                place=place,
                target=follow.target.path,
                host=box.name,
                experiment=follow.target.experiment,
                kind=follow.kind,
                version=follow.source.version,
                size=follow.source.version.size - torn,
                sha256=GROWING,
                fetched_at=0.0,
                reason=follow.reason,
            )
        )

    def settle_all(self, boxes: Iterable[Box]) -> None:
        """Learn, plan and do until every box has nothing left to do."""
        for _ in range(5):
            for box in boxes:
                self.learn(box)
                self.do(self.plan(box), box)


def targets(plan: Plan) -> dict[str, list[str]]:
    """Return where each file of a plan goes, by its path from the tree on; growing ones and moves included."""
    found = {
        file.source.place.removeprefix(ROOT + "/"): [str(target.path) for target in file.targets]
        for group in plan.groups
        for file in group.files
    }
    found |= {each.place.removeprefix(ROOT + "/"): [str(each.target.path)] for each in plan.follows}
    return found


def reasons(plan: Plan, path: str) -> list[str]:
    """Return every reason why the entry at `path` (from the tree on) does not come now: its own or a directory's."""
    place = f"{ROOT}/{path}"
    left_out = [each for entries in plan.left_out.values() for each in entries]
    return [each.reason for each in left_out if _covers(each.place, place)] + [
        f"waiting: {each.reason}" for each in plan.waiting if _covers(each.place, place)
    ]


def _covers(above: str, place: str) -> bool:
    return place == above or place.startswith(above + "/")
