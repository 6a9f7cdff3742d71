"""Whatever a host shows, each entry is in exactly one list: here, outstanding, lost, or given up by the operator.

Each file has a power of two of bytes: the sum of what is lost says exactly which files these are, and that none of them
is counted twice. What the operator gives up, and where links lead, is said here once more, by names alone.
"""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from typing import Final

from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from harvestd.convention.kinds import LossKind
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.convention.scan.classify import survey
from harvestd.convention.scan.model import ScanResult
from harvestd.convention.scan.snapshot import EntryType, Tree, TreeKind
from harvestd.planning.plan import Plan
from harvestd.safety.check import judge
from harvestd.safety.inputs import Evidence
from harvestd.safety.verdict import ReasonKind, VerdictAnswer
from support.box_trees import EVALS, ROOT, TRAINING, Box, Home, T
from support.judged_boxes import DISK, NOBODY, NOW, Scene

MORE = Tree("/mnt/more", "training_runs", TreeKind.TRAINING)
"""A tree on another device."""
HUSK = "run_2025-08-21_10-00-00"
OFFLINE = "wandb/offline-run-20250820_033150-ab12cd34"
IN_RUN: Final = (
    "config.yaml",
    "logs/train_log.jsonl",
    "logs/rollouts_0.jsonl",
    "logs/ratios.jsonl",
    "logs/stdout.log",
    "tensorboard/events.out.tfevents.1.gpu-a.1.0",
    "tensorboard/profile.json",
    "training_state/step_20/optimizer.pt",
    "training_state/step_20/training_info.json",
    "training_state/step_40/optimizer.pt",
    "training_state/step_40/optimizer.pt.part",
    "training_state/step_final/optimizer.pt",
    "training_state/step_final/training_info.json",
    "training_state/notes.txt",
    f"{OFFLINE}/run-ab12cd34.wandb",
    f"{OFFLINE}/files/config.yaml",
    f"{OFFLINE.replace('ab12', 'ef56')}/run-ef56cd34.wandb",
    "wandb/run-20250820_033150-ab12cd34/run-ab12cd34.wandb",
    "wandb/settings",
    "core",
    "core.4242",
    "core.py",
    "x.tmp",
    ".config.yaml.swp",
    "__pycache__/core.pyc",
    "deep/er/notes.txt",
    "deep/er/more.txt",
)
IN_EVAL: Final = (
    "eval_config.yaml",
    "results/consolidated_metrics.csv",
    "results/step_20_gsm8k/greedy/metrics.csv",
    "results/step_20_gsm8k/greedy/run_meta.json",
    "results/step_20_gsm8k/greedy/records.jsonl.gz",
    "results/step_20_gsm8k/greedy/notes.txt",
    "results/lonely/run_meta.json",
    "logs/worker.log",
    f"{OFFLINE}/run-ab12cd34.wandb",
)
PLACES: Final = (
    *(f"training_runs/{run}/{path}" for run in (T, HUSK) for path in IN_RUN),
    *(f"eval_runs/{T}_gsm8k/{path}" for path in IN_EVAL),
    *(f"{MORE}/{path}" for path in (f"{T[:-1]}4/config.yaml", f"{T[:-1]}4/notes.txt", "stray/a.bin", "x.tmp")),
    "training_runs/notes.txt",
    "training_runs/stray/a.bin",
    f"training_runs/{OFFLINE}/run-ab12cd34.wandb",
    "eval_runs/stray/metrics.csv",
    "eval_runs/stray/__pycache__/a.pyc",
    "eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_gsm8k/r/metrics.csv",
    "eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_gsm8k/r/odd.txt",
)
PRUNED: Final = (
    f"training_runs/{T}/.git",
    f"training_runs/{T}/__pycache__",
    "training_runs/.cache",
    "eval_runs/.ipynb_checkpoints",
    f"eval_runs/{T}_gsm8k/.cache",
)
SHUT: Final = (f"training_runs/{T}/private", "eval_runs/private", f"training_runs/{T}/training_state/step_60")
SPECIAL: Final = (f"training_runs/{T}/pipe", "eval_runs/socket")
LINKS: Final = (
    (f"training_runs/{T}/training_state/step_latest", "step_40", False),
    (f"training_runs/{T}/data", "/data/set", True),
    (f"training_runs/{T}/up", "../../../..", True),
    (f"training_runs/{T}/beside", f"../{HUSK}/logs", False),
    (f"training_runs/{T}/wandb/latest-run", "run-20250820_033150-ab12cd34", False),
    (f"training_runs/{T}/wandb/debug.log", f"{ROOT}/training_runs/{T}/wandb/x/debug.log", False),
    (f"training_runs/{T}/by", "data/deep", True),
    ("training_runs/run_2025-08-22_00-00-00", "/ephemeral/run_2025-08-22_00-00-00", True),
    ("training_runs/latest", T, False),
    ("training_runs/loop", "loop", True),
    ("eval_runs/out", f"../training_runs/{T}", True),
    ("eval_runs/.#locked", "me@host.1:2", False),
)
"""Links, and whether they lead out of their tree, or nowhere."""
THROUGH: Final = {f"training_runs/{T}/by": f"training_runs/{T}/data"}
"""A link that leads out by way of another, and within its tree where that one is not there."""
PATTERNS: Final = (
    "rollouts*",
    "*.txt",
    "wandb",
    ".git",
    "private",
    "*/wandb/run-*",
    "core*",
    "step_20",
    "data",
    "stray",
)
INCLUDES: Final = ("logs/*", "wandb/*.wandb", "deep/*", "core.*", "results/*/notes.txt", "*.gz", "x.tmp")


@st.composite
def scenes(draw: st.DrawFn) -> Scene:
    """Return a host with some of all that, and a home that has some of what is wanted."""
    box = Box(trees=(TRAINING, EVALS, MORE))
    chosen = draw(st.lists(st.sampled_from(PLACES), unique=True, max_size=60))
    for index, path in enumerate(chosen):
        box.file(
            path, draw(st.sampled_from([0, 1, 1, 1])) << index, age=draw(st.sampled_from([3600.0, 3600.0, -4999.0]))
        )
    for path in (
        draw(st.lists(st.sampled_from(sorted(each for each in chosen if each.endswith(".wandb"))), unique=True))
        if any(each.endswith(".wandb") for each in chosen)
        else ()
    ):
        box.file(f"{path}.synced", 0, age=draw(st.sampled_from([-4999.0, 7200.0])))
    for index, path in enumerate(draw(st.lists(st.sampled_from(PRUNED), unique=True))):
        if not any(each.startswith(f"{path}/") for each in chosen):
            box.pruned(path, draw(st.sampled_from([-1, 0, 1 << (100 + index)])))
    for path in draw(st.lists(st.sampled_from(SHUT), unique=True, max_size=1)):
        box.shut(path)
    for path in draw(st.lists(st.sampled_from(SPECIAL), unique=True)):
        box.special(path)
    for path, target, _ in draw(st.lists(st.sampled_from(LINKS), unique=True)):
        box.link(path, target)
    selection = Selection(
        checkpoint=draw(st.sampled_from(CheckpointPolicy)),
        records=draw(st.booleans()),
        exclude=tuple(draw(st.lists(st.sampled_from(PATTERNS), unique=True, max_size=3))),
        include=tuple(draw(st.lists(st.sampled_from(INCLUDES), unique=True, max_size=3))),
    )
    home = Home(selection)
    home.learn(box)
    for _ in range(draw(st.integers(0, 3))):
        plan = home.plan(box, NOW)
        kept = draw(st.integers(0, len(plan.groups)))
        home.do(replace(plan, groups=plan.groups[:kept], follows=plan.follows[: draw(st.integers(0, 3))]), box)
    devices = {str(TRAINING): DISK, str(EVALS): DISK, str(MORE): 77, ROOT: DISK, MORE.root: 77}
    return Scene(
        box=box,
        home=home,
        roots=(ROOT, MORE.root),
        devices=devices,
        devices_now={TRAINING: DISK, EVALS: DISK, MORE: 77},
        circumstances=replace(NOBODY, devices={ROOT: DISK, MORE.root: 77}),
    )


def excluded(path: str, selection: Selection) -> bool:
    """Return whether a pattern of the operator's is for a path below its tree, or for a directory above it."""
    parts = path.split("/")
    return any(
        fnmatchcase(part, pattern) or fnmatchcase("/".join(parts[: n + 1]), pattern)
        for n, part in enumerate(parts)
        for pattern in selection.exclude
    )


def included(path: str, selection: Selection) -> bool:
    """Return whether the operator wants a file below a run or eval directory."""
    parts = path.split("/")
    depth = next((n + 1 for n, part in enumerate(parts) if part.startswith(("run_", "step_base"))), len(parts))
    return any(fnmatchcase("/".join(parts[depth:]), pattern) for pattern in selection.include) and depth < len(parts)


def is_litter(path: str) -> bool:
    """Return whether a file or directory is litter by its name, or by one above it."""
    *above, name = path.split("/")
    names = {".ipynb_checkpoints", "__pycache__"}
    return bool(names & {*above, name}) or name.endswith((".tmp", ".swp")) or name.startswith(".#")


def synced(box: Box, tree: Tree, path: str) -> bool:
    """Return whether a file belongs to an offline run of W&B's that was synced."""
    head, found, rest = path.partition("wandb/offline-run-")
    if not found:
        return False
    run = f"{head}{found}{rest.partition('/')[0]}/"
    beside = {str(each): entry.version for each, entry in box.entries[tree].items() if str(each).startswith(run)}
    histories = [each for each in beside if each.endswith(".wandb") and "/" not in each.removeprefix(run)]
    marks = [(beside[each].mtime_ns, beside.get(f"{each}.synced")) for each in histories]
    return bool(marks) and all(mark is not None and mark.mtime_ns >= time for time, mark in marks)


def wanted_places(seen: ScanResult) -> set[str]:
    """Return the places of all that may be wanted: what stands in the survey's lists and not among what is left out."""
    groups = [group for run in seen.runs for group in (*run.groups, *run.checkpoints)]
    groups += [group for each in seen.evals for group in each.groups]
    growing = {wanted.source.place for run in seen.runs for wanted in run.growing}
    return growing | {member.source.place for group in groups for member in group.members}


def outstanding(plan: Plan, evidence: Evidence, seen: ScanResult) -> set[str]:
    """Return the places of what is brought, waited for, or kept from coming."""
    found = {file.source.place for group in plan.groups for file in group.files}
    found |= {each.place for each in plan.follows} | {each.place for each in plan.checks}
    found |= {each.record.place for each in plan.refiles}
    covered = [each.place for each in plan.waiting] + [each.place for each in evidence.not_here]
    below = tuple(f"{place}/" for place in covered)
    return found | {place for place in wanted_places(seen) if f"{place}/".startswith(below)}


def entries_of(box: Box) -> Iterator[tuple[Tree, str, EntryType, int]]:
    """Yield each entry: its tree, its path, its kind and its bytes."""
    for tree in box.trees:
        for path, entry in box.entries.get(tree, {}).items():
            yield tree, str(path), entry.type, entry.version.size


def lost_by_names(scene: Scene, evidence: Evidence, plan: Plan) -> tuple[int, int]:
    """Return the bytes that must be lost, and how many entries of unknown size."""
    box, selection, knowledge = scene.box, scene.home.selection, scene.home.knowledge
    seen = survey(box.snapshot(NOW), selection)
    coming = outstanding(plan, evidence, seen)
    links = {f"{tree.name}/{path}" for tree, path, kind, _ in entries_of(box) if kind is EntryType.LINK}
    leading_out = {path for path, _, leads_out in LINKS if leads_out}
    leading_out -= {path for path, through in THROUGH.items() if through not in links}
    size = unknown = 0
    for tree, path, kind, bytes_of in entries_of(box):
        place = f"{tree}/{path}"
        if excluded(path, selection):
            continue
        if kind is EntryType.LINK:
            unknown += f"{tree.name}/{path}" in leading_out
        elif kind is EntryType.PRUNED and not is_litter(path):
            unknown += bytes_of < 0
            size += max(bytes_of, 0)
        elif kind is EntryType.FILE and bytes_of:
            here = any(each.version.size == bytes_of for each in knowledge.copies(box.storage, place))
            given_up = (is_litter(path) or synced(box, tree, path)) and not included(path, selection)
            size += 0 if here or given_up or place in coming else bytes_of
    return size, unknown


@settings(max_examples=250, deadline=None)
@given(scenes())
def test_every_entry_is_in_exactly_one_list(scene: Scene) -> None:
    """What is neither here nor outstanding nor given up is lost, once, with its bytes; else the host is not safe."""
    # In this order: a plan may need what the evidence says of the processes on the host.
    evidence = scene.evidence()
    plan = scene.home.plan(scene.box, NOW)
    size, unknown = lost_by_names(scene, evidence, plan)
    verdict = judge(evidence)
    assert sum(loss.size or 0 for loss in verdict.losses) == size, verdict.losses
    assert sum(loss.size is None for loss in verdict.losses) == unknown, verdict.losses
    shut = [path for paths in scene.box.unreadable.values() for path in paths]
    unread = [path for path in shut if not excluded(str(path), scene.home.selection)]
    assert (ReasonKind.NOT_LOOKED_AT in {reason.kind for reason in verdict.reasons}) == bool(unread)
    if verdict.answer is VerdictAnswer.SAFE:
        assert not size
        assert not unknown
    assert LossKind.UNCOMMITTED_WORK not in {loss.kind for loss in verdict.losses}
