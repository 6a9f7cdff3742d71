"""A run's directory: which of its files the convention names, which are left out and why."""

from collections.abc import Iterable, Sequence

from harvestd.convention.artifacts import GROWING, Kind
from harvestd.convention.layout import Group, LeftOut, RunDir, Source, Wanted, place_of
from harvestd.convention.leftovers import Leftovers
from harvestd.convention.paths import RemotePath
from harvestd.convention.patterns import RunName, checkpoint_step
from harvestd.convention.selection import CheckpointPolicy, Exclusion, Selection, excluded_anywhere
from harvestd.convention.snapshot import Entry, EntryType, Tree

_UNKNOWN = Exclusion("not part of the convention")
_CHECKPOINT_DEPTH = 2
"""training_state/step_N: the checkpoint's directory, counted from the run's."""
MARKER = "training_info.json"
_FINAL_INFO = ("training_state", "step_final", MARKER)
_LATEST = ("training_state", "step_latest")


def training_kind(rest: tuple[str, ...], selection: Selection) -> Kind | Exclusion:
    """Tell what the file at `rest` below a run's directory is; total: everything gets a kind or a reason.

    What is excluded at any place is not its matter: `excluded_anywhere` goes before.
    """
    match rest:
        case ("config.yaml" | "resume_config.yaml",):
            return Kind.CONFIG
        case ("logs", "train_log.jsonl"):
            return Kind.TRAIN_LOG
        case ("logs", name) if name.startswith("rollouts") or name == "ratios.jsonl":
            return Exclusion("rule: rollouts are large and never wanted", len(rest))
        case ("tensorboard", name) if name.startswith("events.out.tfevents."):
            return Kind.TENSORBOARD if selection.tensorboard else Exclusion("rule: select.tensorboard = false", 1)
        case ("training_state", directory, _, *_) if step := checkpoint_step(directory):
            return _checkpoint_kind(step, selection.checkpoint)
    return _UNKNOWN


def _checkpoint_kind(step: str, policy: CheckpointPolicy) -> Kind | Exclusion:
    if policy is CheckpointPolicy.NONE or (policy is CheckpointPolicy.FINAL and step != "final"):
        return Exclusion(f'rule: select.checkpoint = "{policy}"', _CHECKPOINT_DEPTH)
    return Kind.CHECKPOINT


def understand_run(
    tree: Tree,
    path: RemotePath,
    name: RunName,
    entries: Sequence[Entry],
    selection: Selection,
    unlisted: Iterable[RemotePath] = (),
) -> RunDir:
    """Sort everything below one run's directory into groups, growing files and leftovers."""
    depth = len(path.parts)
    leftovers = Leftovers(tree, depth)
    singles: list[Wanted] = []
    checkpoints: dict[str, list[Wanted]] = {}
    for entry in entries:
        if entry.type is EntryType.DIRECTORY:
            continue
        if entry.type is not EntryType.FILE:
            leftovers.add_special(entry)
            continue
        rest = entry.path.parts[depth:]
        kind = excluded_anywhere(rest, selection, path.parts) or training_kind(rest, selection)
        if isinstance(kind, Exclusion):
            leftovers.add(entry, kind)
            continue
        leftovers.understood(entry.path)
        wanted = Wanted(Source(tree, entry.path, entry.version), kind, rest, _reason(kind, rest))
        if kind is Kind.CHECKPOINT:
            checkpoints.setdefault(rest[1], []).append(wanted)
        else:
            singles.append(wanted)
    for directory in unlisted:
        leftovers.add_unlisted(directory)
    left_out = leftovers.collected()
    groups = [Group.single(wanted) for wanted in singles if wanted.kind not in GROWING]
    chosen, superseded = _chosen_checkpoints(checkpoints, selection.checkpoint)
    groups += [_checkpoint(tree, path, step, chosen[step]) for step in sorted(chosen)]
    left_out += [_as_left_out(tree, path, step, superseded[step]) for step in sorted(superseded)]
    return RunDir(
        tree=tree,
        path=path,
        name=name,
        groups=tuple(groups),
        growing=tuple(wanted for wanted in singles if wanted.kind in GROWING),
        left_out=tuple(left_out),
        # These two are read to understand the run, whether they are wanted or not.
        config=_source_at(tree, entries, (*path.parts, "config.yaml")),
        final_info=_source_at(tree, entries, (*path.parts, *_FINAL_INFO)),
        latest=_latest(entries, (*path.parts, *_LATEST)),
    )


def _source_at(tree: Tree, entries: Iterable[Entry], parts: tuple[str, ...]) -> Source | None:
    found = (each for each in entries if each.type is EntryType.FILE and each.path.parts == parts)
    return next((Source(tree, each.path, each.version) for each in found), None)


def _latest(entries: Iterable[Entry], parts: tuple[str, ...]) -> str | None:
    """Give what the link at `parts` points to if it is a checkpoint beside it: the box may write anything there."""
    links = (each for each in entries if each.type is EntryType.LINK and each.path.parts == parts)
    target = next((each.target for each in links), None)
    return target if target and checkpoint_step(target) else None


def _reason(kind: Kind, rest: tuple[str, ...]) -> str:
    return f"{rest[1]} is wanted" if kind is Kind.CHECKPOINT else f"{kind} is always wanted"


def _find(wanted: Iterable[Wanted], rest: tuple[str, ...]) -> Source | None:
    return next((each.source for each in wanted if each.rest == rest), None)


def _chosen_checkpoints(
    found: dict[str, list[Wanted]], policy: CheckpointPolicy
) -> tuple[dict[str, list[Wanted]], dict[str, list[Wanted]]]:
    """Split into wanted and superseded checkpoints; with "final+latest" only the newest complete one counts."""
    if policy is not CheckpointPolicy.FINAL_AND_LATEST:
        return found, {}
    complete = [step for step, files in found.items() if any(each.rest[2:] == (MARKER,) for each in files)]
    newest = max(complete, key=_step_order, default=None)
    chosen = {step: files for step, files in found.items() if step in {"step_final", newest}}
    return chosen, {step: files for step, files in found.items() if step not in chosen}


def _step_order(directory: str) -> tuple[bool, int, str]:
    step = checkpoint_step(directory) or "0"
    return (step == "final", 0 if step == "final" else int(step), directory)


def _checkpoint(tree: Tree, run: RemotePath, step: str, members: list[Wanted]) -> Group:
    marker = _find(members, ("training_state", step, MARKER))
    ordered = sorted(members, key=lambda each: (each.source == marker, each.rest))
    return Group(tree, run / "training_state" / step, tuple(ordered), marker, needs_marker=True)


def _as_left_out(tree: Tree, run: RemotePath, step: str, members: list[Wanted]) -> LeftOut:
    size = sum(member.source.version.size for member in members)
    place = place_of(tree, run / "training_state" / step)
    return LeftOut(place, size, len(members), 'rule: select.checkpoint = "final+latest" keeps the newest')
