"""Hosts on which anything may happen, watched by looks: none is called safe while a wanted byte of it is missing.

Survey, planning, sightings and judging are the real ones. What is wanted, and what is lost, is said here once more, by
the paths of a host's files alone and by nothing of theirs; what came home is what plans said, as much of it as the
machine likes. Two hosts share one home: runs and evals of one name may be on both.

The long run is made by hand: HARVESTD_TEST_MACHINE_EXAMPLES=4000 HARVESTD_TEST_MACHINE_STEPS=40 pytest …
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, rule, run_state_machine_as_test
from msgspec.structs import replace

from harvestd.convention.kinds import LossKind
from harvestd.convention.metadata.parse import TrainingInfo
from harvestd.convention.paths import LocalPath, RemotePath
from harvestd.convention.scan.classify import survey
from harvestd.convention.scan.links import LinkTarget
from harvestd.convention.scan.snapshot import Entry, EntryType, Listing, Snapshot, Tree, TreeState, Version
from harvestd.convention.scan.stability import IdleTimer
from harvestd.planning.plan import Plan
from harvestd.safety.inputs import Carrier, CarrierState, Circumstances, Damaged, Outside
from harvestd.safety.verdict import Verdict, VerdictAnswer
from support.box_trees import EVALS, ROOT, TRAINING, Box, Home
from support.judged_boxes import DISK, IDLE, NOBODY, Scene

RUNS = ("run_2025-08-20_03-31-43", "run_2025-08-21_10-00-00")
LINKED = "run_2025-08-22_00-00-00"
"""A run that is only ever a link."""
BASE = "qwen2_5_15_gsm8k_finetuned/step_base_gsm8k"
OFFLINE = "wandb/offline-run-20250820_033150-ab12cd34"
IGNORED = "rclone"
"""A program that the operator passes over."""
LOOKS_APART = 100.0
"""Seconds between two looks while time passes."""
_QUICK = settings(
    max_examples=int(os.environ.get("HARVESTD_TEST_MACHINE_EXAMPLES", "60")),
    stateful_step_count=int(os.environ.get("HARVESTD_TEST_MACHINE_STEPS", "25")),
    deadline=None,
    derandomize="HARVESTD_TEST_MACHINE_EXAMPLES" not in os.environ,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate, Phase.shrink],
)
names = st.sampled_from(["gpu-a", "gpu-a", "gpu-b"])
runs = st.sampled_from(RUNS)
steps = st.sampled_from(["step_20", "step_40"])
evaluated = st.sampled_from(["20", "40", "final", "base"])
L = LossKind


@dataclass
class Host:
    """One host, with all that is known of it from its looks."""

    box: Box
    connected: bool = True
    stillness: IdleTimer = field(default_factory=IdleTimer)
    last: tuple[Listing, ...] | None = None
    """What the last look of this connection showed."""
    moved: float = 0.0
    """When a look showed something else than the one before it, or there was none before it."""
    mounted: dict[Tree, dict[RemotePath, Entry]] | None = None
    """What is on the file system while it is not mounted."""
    circumstances: Circumstances = NOBODY
    torn: dict[str, int] = field(default_factory=dict)
    """Bytes after the last whole line, by the place of a log."""
    devices: dict[str, int] = field(default_factory=dict)
    device: int = DISK
    began: bool = False
    links: dict[str, LinkTarget] = field(default_factory=dict)
    """What the host says of its links, by their places."""

    @property
    def tree(self) -> dict[Tree, dict[RemotePath, Entry]]:
        """What the file system holds, mounted or not."""
        return self.box.entries if self.mounted is None else self.mounted

    def files(self) -> Iterator[tuple[Tree, RemotePath, Version]]:
        """Yield all files of the file system."""
        for tree, entries in sorted(self.tree.items()):
            for path, entry in sorted(entries.items()):
                if entry.type is EntryType.FILE:
                    yield tree, path, entry.version

    def is_run(self, run: str) -> bool:
        """Return whether a directory is a run: it has a config.yaml."""
        return RemotePath((run, "config.yaml")) in self.tree.get(TRAINING, {})

    def is_synced(self, path: RemotePath) -> bool:
        """Return whether the W&B run that a file is part of is older than its mark."""
        beside = {each: version for _, each, version in self.files() if each.parts[:-1] == path.parts[:-1]}
        histories = [each for each in beside if each.name.endswith(".wandb")]
        marks = [beside.get(RemotePath((*each.parts[:-1], f"{each.name}.synced"))) for each in histories]
        both = zip(histories, marks, strict=True)
        return bool(histories) and all(mark and beside[each].mtime_ns <= mark.mtime_ns for each, mark in both)


@dataclass(frozen=True)
class Truth:
    """What has to become of a file: it is wanted, or its loss is one of these, or nothing is lost with it."""

    wanted: bool = False
    losses: frozenset[LossKind] = frozenset()


WANTED, NOTHING = Truth(wanted=True), Truth()


def content(version: Version) -> str:
    """Return the hash of a file: of two files of one size it is the same one time in two."""
    return f"{version.inode % 2:064}"


def truth_of(host: Host, tree: Tree, path: RemotePath) -> Truth:
    """Return it by the names of what is there."""
    return _of_run(host, path) if tree == TRAINING else _of_eval(host, path)


def _of_run(host: Host, path: RemotePath) -> Truth:
    run, *below = path.parts
    is_run = host.is_run(run)
    match below:
        case ["wandb", *_]:
            return NOTHING if host.is_synced(path) else Truth(losses=frozenset({L.WANDB}))
        case [*_, name] if name.endswith(".tmp"):
            return NOTHING
        case ["logs", "rollouts_0.jsonl"]:
            return Truth(losses=frozenset({L.ROLLOUTS}))
        case ["config.yaml"] | ["logs", "train_log.jsonl"] if is_run:
            return WANTED
        case ["training_state", "step_final", "optimizer.pt" | "training_info.json"] if is_run:
            return WANTED
        case ["training_state", _, _]:
            return Truth(losses=frozenset({L.CHECKPOINTS, L.EVALUATED_CHECKPOINTS}))
    return Truth(losses=frozenset({L.OUTSIDE_FILES}))


def _of_eval(host: Host, path: RemotePath) -> Truth:
    leaf = RemotePath((*path.parts[:-1], "metrics.csv"))
    if path.name in {"metrics.csv", "run_meta.json"} and leaf in host.tree[EVALS]:
        return WANTED
    return Truth(losses=frozenset({L.OUTSIDE_FILES}))


class VerdictMachine(RuleBasedStateMachine):
    """Two hosts, one home, and the clock between them."""

    answers: ClassVar[set[VerdictAnswer]] = set()
    """All that ever came out."""

    def __init__(self) -> None:
        super().__init__()
        self.hosts = {name: Host(Box(name, f"static:{name}")) for name in ("gpu-a", "gpu-b")}
        self.home = Home()
        self.home.content = content
        self.now = 0.0
        self.evals = 0
        """How many were made."""
        self.taken: set[LocalPath] = set()
        """What a person took away at home."""

    # what happens on a host

    def write(self, host: Host, path: str, size: int, inode: int | None = None) -> None:
        """Write a file now; where the file system is not mounted, below the place where it should be."""
        host.box.file(path, size, age=-self.now, inode=inode)
        host.began = True

    @rule(at=names, run=runs)
    def start_run(self, at: str, run: str) -> None:
        """Begin a run, or write its config.yaml anew."""
        self.write(self.hosts[at], f"training_runs/{run}/config.yaml", 2000 + int(self.now) % 5)
        self.write_log(at, run, 10, 0)

    @rule(at=names, run=runs, more=st.integers(1, 500), torn=st.sampled_from([0, 0, 9]))
    def write_log(self, at: str, run: str, more: int, torn: int) -> None:
        """Append to a log; its last line may be whole or not."""
        host, path = self.hosts[at], f"training_runs/{run}/logs/train_log.jsonl"
        before = host.box.entries.get(TRAINING, {}).get(RemotePath.parse(path.partition("/")[2]))
        size, inode = (before.version.size, before.version.inode) if before else (0, None)
        self.write(host, path, size + more + torn, inode)
        host.torn[f"{ROOT}/{path}"] = torn

    @rule(at=names, run=runs, step=steps, whole=st.booleans())
    def checkpoint(self, at: str, run: str, step: str, *, whole: bool) -> None:
        """Write a checkpoint, or all of it but its marker."""
        state = f"training_runs/{run}/training_state/{step}"
        self.write(self.hosts[at], f"{state}/optimizer.pt", 5000)
        if whole:
            self.write(self.hosts[at], f"{state}/training_info.json", 90)

    @rule(at=names, run=runs)
    def finish(self, at: str, run: str) -> None:
        """Write the final checkpoint."""
        self.checkpoint(at, run, "step_final", whole=True)
        self.hosts[at].box.finals[f"training_runs/{run}"] = TrainingInfo(64, "Qwen/Qwen2.5-1.5B", 1)

    @rule(at=names, run=runs, step=evaluated, whole=st.booleans())
    def evaluate(self, at: str, run: str, step: str, *, whole: bool) -> None:
        """Make an eval, begin one, or make it again."""
        self._evaluate(at, f"eval_runs/{run}_gsm8k/results/step_{step}_gsm8k/greedy", whole=whole)

    @rule(at=names, whole=st.booleans())
    def evaluate_base(self, at: str, *, whole: bool) -> None:
        """Make an eval of the model as it was before training, or make it again."""
        self._evaluate(at, f"eval_runs/{BASE}/greedy", whole=whole)

    def _evaluate(self, at: str, leaf: str, *, whole: bool) -> None:
        self.evals += 1
        self.write(self.hosts[at], f"{leaf}/metrics.csv", 700 + self.evals % 5)
        if whole:
            self.write(self.hosts[at], f"{leaf}/run_meta.json", 80)

    @rule(at=names, run=runs, name=st.sampled_from(["logs/rollouts_0.jsonl", "notes.txt", "core.py", "x.tmp"]))
    def write_what_is_not_wanted(self, at: str, run: str, name: str) -> None:
        """Write something that no convention brings."""
        self.write(self.hosts[at], f"training_runs/{run}/{name}", 60)

    @rule(at=names, run=runs, size=st.integers(1, 90))
    def log_to_wandb(self, at: str, run: str, size: int) -> None:
        """Write to an offline run of W&B's."""
        self.write(self.hosts[at], f"training_runs/{run}/{OFFLINE}/run-ab12cd34.wandb", size)

    @rule(at=names, run=runs)
    def sync_wandb(self, at: str, run: str) -> None:
        """Mark it as synced."""
        self.write(self.hosts[at], f"training_runs/{run}/{OFFLINE}/run-ab12cd34.wandb.synced", 0)

    @rule(
        at=names,
        link=st.sampled_from(
            [
                (f"training_runs/{LINKED}", f"/ephemeral/{LINKED}"),
                (f"training_runs/{RUNS[0]}/data", "/data/set"),
                ("training_runs/latest", RUNS[0]),
                ("eval_runs/training", "../training_runs"),
            ]
        ),
        is_reported=st.booleans(),
    )
    def make_a_link(self, at: str, link: tuple[str, str], *, is_reported: bool) -> None:
        """Make a link; the host may say where it leads, or not."""
        host, (path, target) = self.hosts[at], link
        if host.mounted is not None:
            return
        host.box.link(path, target)
        watched = not target.startswith("/")
        host.links.pop(f"{ROOT}/{path}", None)
        if is_reported:
            host.links[f"{ROOT}/{path}"] = LinkTarget(target, target, size=7, watched=watched)

    @rule(at=names, run=runs, size=st.sampled_from([-1, 0, 9]))
    def make_a_repository(self, at: str, run: str, size: int) -> None:
        """Have a directory that is counted, but not listed."""
        if self.hosts[at].mounted is None:
            self.hosts[at].box.pruned(f"training_runs/{run}/.git", size)

    @rule(at=names, shut=st.booleans())
    def shut_or_open(self, at: str, *, shut: bool) -> None:
        """Let a directory be none that may be listed, or one again."""
        box = self.hosts[at].box
        box.unreadable.clear()
        if shut:
            box.shut("training_runs/private")

    @rule(at=names, data=st.data())
    def rename_or_remove(self, at: str, data: st.DataObject) -> None:
        """Remove a file or a link, or give a file another name in its directory, with the same times."""
        entries = self.hosts[at].box.entries
        kinds = {EntryType.FILE, EntryType.LINK}
        found = [
            (tree, path)
            for tree in sorted(entries)
            for path in sorted(entries[tree])
            if entries[tree][path].type in kinds
        ]
        if not found:
            return
        tree, path = data.draw(st.sampled_from(found))
        entry = entries[tree].pop(path)
        name = data.draw(st.sampled_from(["", "metrics.csv", "config.yaml", "other.txt"]))
        if name and entry.type is EntryType.FILE:
            beside = RemotePath((*path.parts[:-1], name))
            entries[tree][beside] = Entry(beside, EntryType.FILE, entry.version)

    @rule(at=names, there=st.booleans())
    def unmount(self, at: str, *, there: bool) -> None:
        """Let the file system go; the root's directory may stay, on another device."""
        host = self.hosts[at]
        if host.mounted is not None:
            return
        host.mounted, host.box.entries, host.device = host.box.entries, {}, DISK + 1
        host.box.states = dict.fromkeys(host.box.trees, TreeState.NO_TREE if there else TreeState.NO_ROOT)

    @rule(at=names)
    def mount(self, at: str) -> None:
        """Have it back: what was written below it meanwhile can't be seen."""
        host = self.hosts[at]
        if host.mounted is not None:
            host.box.entries, host.mounted, host.device = host.mounted, None, DISK
            host.box.states = {}

    @rule(at=names, who=st.sampled_from(["log_ins", "gpu_processes"]), count=st.sampled_from([0, 0, 1, None]))
    def come_and_go(self, at: str, who: str, count: int | None) -> None:
        """Let people and programs come and go."""
        changes: dict[str, Any] = {who: count}
        self.hosts[at].circumstances = replace(self.hosts[at].circumstances, **changes)

    @rule(
        at=names,
        programs=st.lists(st.sampled_from([IGNORED, "sshfs", "x"]), max_size=2),
        state=st.sampled_from(CarrierState),
        unnamed=st.sampled_from([0, 0, 1]),
    )
    def carry(self, at: str, programs: list[str], state: CarrierState, unnamed: int) -> None:
        """Let programs carry files, known ones and others."""
        carriers = tuple(Carrier(program, 10 + n, state) for n, program in enumerate(programs))
        host = self.hosts[at]
        host.circumstances = replace(host.circumstances, carriers=carriers, transfers=len(carriers) + unnamed)

    @rule(at=names)
    def say_nothing_of_carriers(self, at: str) -> None:
        """Let the host not know what carries files."""
        self.hosts[at].circumstances = replace(self.hosts[at].circumstances, carriers=(), transfers=None)

    @rule(at=names)
    def let_all_be_quiet(self, at: str) -> None:
        """Let everybody go, and every directory be listed."""
        self.hosts[at].circumstances = NOBODY
        self.hosts[at].box.unreadable.clear()
        self.mount(at)
        self.connect(at)

    @rule(at=names, outside=st.sampled_from([Outside(0, 0), Outside(2, 10), None]))
    def write_outside(self, at: str, outside: Outside | None) -> None:
        """Write files outside the roots."""
        self.hosts[at].circumstances = replace(self.hosts[at].circumstances, outside=outside)

    # what happens here

    @rule(seconds=st.sampled_from([1.0, 60.0, 500.0, 1000.0]))
    def time_passes(self, seconds: float) -> None:
        """Let time pass, with looks in between where there is a link."""
        end = self.now + seconds
        while self.now < end:
            self.now = min(end, self.now + LOOKS_APART)
            for host in self.hosts.values():
                if host.connected:
                    self.look(host)

    @rule(at=names)
    def lose_the_link(self, at: str) -> None:
        """Lose the link."""
        host = self.hosts[at]
        host.connected, host.last = False, None
        host.stillness = IdleTimer()
        self.home.lose(host.box)

    @rule(at=names)
    def connect(self, at: str) -> None:
        """Have it back."""
        self.hosts[at].connected = True

    def look(self, host: Host) -> Snapshot:
        """Look at a host as a daemon does."""
        snapshot = host.box.snapshot(self.now)
        changed = snapshot.listings != host.last
        if changed:
            host.moved = self.now
        host.last = snapshot.listings
        host.stillness.record_scan(snapshot if changed else replace(snapshot, changed=False), self.now, LOOKS_APART)
        seen = survey(snapshot, self.home.selection)
        for tree in {run.tree for run in seen.runs} | {each.tree for each in seen.evals}:
            host.devices.setdefault(str(tree), host.device)
        self.home.learn(host.box)
        return snapshot

    @rule(at=names, most=st.integers(0, 6))
    def harvest(self, at: str, most: int) -> None:
        """Bring some of what is wanted home."""
        host = self.hosts[at]
        if not host.connected:
            return
        self.look(host)
        plan = self.home.plan(host.box, self.now)
        some = replace(plan, groups=plan.groups[:most], follows=plan.follows[:most], checks=plan.checks[:most])
        self.bring(host, some)

    @rule(at=names)
    def harvest_all(self, at: str) -> None:
        """Bring all of it."""
        host = self.hosts[at]
        for _ in range(4 if host.connected else 0):
            self.look(host)
            self.bring(host, self.home.plan(host.box, self.now))

    def bring(self, host: Host, plan: Plan) -> None:
        """Do what a plan says; of a line that is not whole, nothing comes."""
        self.home.do(replace(plan, follows=()), host.box)
        for follow in plan.follows:
            torn = 0 if follow.whole else host.torn.get(follow.place, 0)
            self.home.follow(follow.place, plan, host.box, torn=torn)
        self.taken -= {target.path for group in plan.groups for file in group.files for target in file.targets}

    @rule(at=names, data=st.data())
    def take_away_at_home(self, at: str, data: st.DataObject) -> None:
        """Let a person remove a file that came."""
        files = sorted(file.target for file in self.home.knowledge.files_from(self.hosts[at].box.storage))
        if files:
            self.taken.add(data.draw(st.sampled_from(files)))

    # what is said of it

    @rule(at=names)
    def judge(self, at: str) -> None:
        """Make a verdict now; whatever it says, it must not lose anything."""
        self.hold(self.hosts[at], self.verdict(self.hosts[at]))

    def teardown(self) -> None:
        """Let each host come to rest at last: most that went wrong before shows only then."""
        for name in self.hosts:
            self.settle_down_and_judge(name, alone=True)

    @rule(at=names, alone=st.sampled_from([True, True, False]))
    def settle_down_and_judge(self, at: str, *, alone: bool) -> None:
        """Let nothing happen for long enough, bring all, and make a verdict; with nobody there, or whoever is there."""
        if alone:
            self.let_all_be_quiet(at)
        self.harvest_all(at)
        self.time_passes(1000.0)
        self.harvest_all(at)
        self.judge(at)

    def verdict(self, host: Host) -> Verdict:
        """Return it, by a whole look."""
        if host.connected:
            self.look(host)
        files = {file.target: file for file in self.home.knowledge.files_from(host.box.storage)}
        return Scene(
            box=host.box,
            home=self.home,
            connected=host.connected,
            now=self.now,
            quiet=host.stillness.quiet,
            seen=host.began,
            devices=host.devices,
            devices_now=dict.fromkeys(host.box.trees, host.device),
            circumstances=host.circumstances.without([IGNORED]),
            damaged=tuple(Damaged(path, files[path].size) for path in sorted(self.taken) if path in files),
            links=host.links,
        ).verdict()

    def hold(self, host: Host, verdict: Verdict) -> None:
        """Hold a verdict against what is true."""
        self.answers.add(verdict.answer)
        if verdict.answer is VerdictAnswer.NOT_SAFE:
            return
        told = host.circumstances
        assert host.connected
        assert host.mounted is None
        assert not any(host.box.unreadable.values())
        assert self.now - host.moved >= IDLE
        assert (told.gpu_processes, told.log_ins) == (0, 0)
        assert {each.program for each in told.carriers} <= {IGNORED}
        assert told.transfers == len(told.carriers)
        lost = {loss.kind for loss in verdict.losses}
        assert L.OUTSIDE_FILES in lost or told.outside == Outside(0, 0)
        for tree, path, version in host.files():
            truth = truth_of(host, tree, path)
            if version.size and not self.is_here(host, f"{tree}/{path}", version):
                assert not truth.wanted, path
                assert not truth.losses or truth.losses & lost, path
        for entries in host.tree.values():
            for path, entry in entries.items():
                if entry.type is EntryType.LINK and (entry.target or "").startswith("/"):
                    assert L.LINKS in lost, path
                if entry.type is EntryType.PRUNED and entry.version.size:
                    assert L.OUTSIDE_FILES in lost, path

    def is_here(self, host: Host, place: str, version: Version) -> bool:
        """Return whether all bytes of this version of a file stand at home; those of another host may be the same."""
        copies = [
            (copy, copy.version == version or (copy.storage != host.box.storage and copy.sha256 == content(version)))
            for each in self.hosts.values()
            for copy in self.home.knowledge.copies(each.box.storage, place)
        ]
        return any(same and copy.size == version.size and copy.target not in self.taken for copy, same in copies)


def test_never_safe_while_anything_is_missing() -> None:
    """Whatever happens, in whatever order; and every answer is given to some of it."""
    VerdictMachine.answers.clear()
    run_state_machine_as_test(VerdictMachine, settings=_QUICK)
    assert VerdictMachine.answers == set(VerdictAnswer)
