"""Classification of run directories: which files are wanted, and which are left out and why."""

from collections.abc import Iterable, Mapping
from operator import itemgetter

from harvestd.convention.kinds import (
    GROWING,
    EventsName,
    Kind,
    LossKind,
    RunName,
    checkpoint_step,
    events_name,
    run_name,
)
from harvestd.convention.paths import RemotePath
from harvestd.convention.rules import INCLUDED, Exclusion, Exclusions, Selection, synced_runs
from harvestd.convention.scan.links import leads_to, places_not_walked
from harvestd.convention.scan.model import Group, RunDir, Source, Wanted, marker_last
from harvestd.convention.scan.skipped import UNKNOWN, Leftovers
from harvestd.convention.scan.snapshot import Entry, EntryType, Tree

_UNKNOWN = Exclusion(UNKNOWN, loss=LossKind.OUTSIDE_FILES)
MARKER = "training_info.json"
_CONFIG = ("config.yaml",)
_FINAL_INFO = ("training_state", "step_final", MARKER)
_LATEST = ("training_state", "step_latest")
_LOG = ("logs", "train_log.jsonl")
_TELLING = frozenset({_CONFIG, _FINAL_INFO, _LOG})
_ADAPTER = ("model", "adapter_config.json")
_ADAPTER_DEPTH = 4
"""Components of training_state/step_N/model/adapter_config.json, relative to the run directory."""
EVENTS_BELOW = 4
"""Levels of sub-directories of tensorboard/ whose event files are wanted: add_scalars and add_hparams make one each,
Lightning two."""


def training_kind(rest: tuple[str, ...], selection: Selection) -> Kind | Exclusion:
    """Return the kind or the exclusion of the file at `rest` below a run directory; every path has a result.

    General exclusions are not considered: `Exclusions` are applied before. Which checkpoint is wanted is decided
    elsewhere, since it depends on more than the path.
    """
    match rest:
        case ("config.yaml" | "resume_config.yaml",):
            return Kind.CONFIG
        case ("logs", "train_log.jsonl"):
            return Kind.TRAIN_LOG
        case ("logs", name) if name.startswith("rollouts") or name == "ratios.jsonl":
            return Exclusion("rule: rollouts are large and never wanted", len(rest), LossKind.ROLLOUTS)
        case ("tensorboard", *below, name) if len(below) <= EVENTS_BELOW and name.startswith("events.out.tfevents."):
            return Kind.TENSORBOARD if selection.tensorboard else Exclusion("rule: select.tensorboard = false", 1)
        case ("training_state", directory, _, *_) if checkpoint_step(directory):
            return Kind.CHECKPOINT
    return _UNKNOWN


def described_run(path: RemotePath) -> RemotePath | None:
    """Return the run directory that the file at `path` in a training tree describes; None if it describes none."""
    for length in {len(rest) for rest in _TELLING}:
        above, rest = path.parts[:-length], path.parts[-length:]
        if rest in _TELLING and above and run_name(above[-1]):
            return RemotePath(above)
    return None


def understand_run(
    tree: Tree,
    path: RemotePath,
    name: RunName,
    entries: Iterable[Entry],
    selection: Selection,
    unlisted: Iterable[RemotePath] = (),
) -> RunDir:
    """Sort all entries below one run directory into groups, growing files and skipped entries, in any order."""
    depth = len(path.parts)
    leftovers = Leftovers(tree, depth)
    below = {entry.path.parts[depth:]: entry for entry in entries}
    exclusions = Exclusions(selection, path.parts, synced_runs(below.values(), depth))
    special: list[Entry] = []
    singles: list[Wanted] = []
    checkpoints: dict[str, list[Wanted]] = {}
    for rest, entry in sorted(below.items(), key=itemgetter(0)):
        if entry.type is EntryType.DIRECTORY:
            continue
        if entry.type is not EntryType.FILE:
            special.append(entry)
            continue
        excluded = exclusions.of_file(rest)
        kind = excluded or training_kind(rest, selection)
        if excluded is None and isinstance(kind, Exclusion) and exclusions.includes(rest):
            kind = Kind.INCLUDED
        if isinstance(kind, Exclusion):
            leftovers.add(entry, kind)
            continue
        leftovers.understood(entry.path)
        wanted = Wanted(Source(tree, entry.path, entry.version), kind, depth, _reason(kind, rest))
        if kind is Kind.CHECKPOINT:
            checkpoints.setdefault(rest[1], []).append(wanted)
        else:
            singles.append(wanted)
    leftovers.add_special(special, exclusions)
    unlisted = tuple(unlisted)
    for directory in unlisted:
        leftovers.add_unlisted(directory, exclusions)
    events = _events(below)
    # A run that was resumed on another machine has files from both.
    writer = max(events, key=lambda name: (name.epoch, name.host), default=None)
    return RunDir(
        tree=tree,
        path=path,
        name=name,
        groups=tuple(Group.single(wanted) for wanted in singles if wanted.kind not in GROWING),
        checkpoints=tuple(_checkpoint(tree, path, step, checkpoints[step]) for step in sorted(checkpoints)),
        growing=tuple(wanted for wanted in singles if wanted.kind in GROWING),
        left_out=tuple(leftovers.collected()),
        # These two are read as metadata, whether they are wanted or not.
        config=_source_at(tree, below, _CONFIG),
        final_info=_source_at(tree, below, _FINAL_INFO),
        latest=_latest(tree, path, below.get(_LATEST), special),
        adapter=_adapter(tree, below),
        writer=writer.host if writer else None,
        events_began=min((name.epoch for name in events), default=None),
        links=leftovers.links,
        lacks_log=not unlisted and _lacks_log(below, exclusions),
    )


def _lacks_log(below: Mapping[tuple[str, ...], Entry], exclusions: Exclusions) -> bool:
    """Return whether there is no log and nothing that may hide one."""
    logs = below.get(_LOG[:1])
    is_listed = logs is None or logs.type is EntryType.DIRECTORY
    return is_listed and _LOG not in below and exclusions.of_file(_LOG) is None


def _source_at(tree: Tree, below: Mapping[tuple[str, ...], Entry], rest: tuple[str, ...]) -> Source | None:
    entry = below.get(rest)
    return Source(tree, entry.path, entry.version) if entry and entry.type is EntryType.FILE else None


def _adapter(tree: Tree, below: Mapping[tuple[str, ...], Entry]) -> Source | None:
    directories = {rest[1] for rest in below if len(rest) == _ADAPTER_DEPTH and rest[-1] == _ADAPTER[-1]}
    for directory in sorted(filter(checkpoint_step, directories), key=_step_order, reverse=True):
        found = _source_at(tree, below, ("training_state", directory, *_ADAPTER))
        if found is not None:
            return found
    return None


def _events(below: Iterable[tuple[str, ...]]) -> list[EventsName]:
    """Return the parsed names of a run's TensorBoard files."""
    inside = (rest for rest in below if rest[0] == "tensorboard" and 0 < len(rest) - 1 <= EVENTS_BELOW + 1)
    return [name for rest in inside if (name := events_name(rest[-1]))]


def _latest(tree: Tree, run: RemotePath, entry: Entry | None, special: Iterable[Entry]) -> str | None:
    """Return the checkpoint to which the link step_latest leads if it is in the same directory; None otherwise.

    The target is untrusted. If a root is a link itself, an absolute target begins with a path that is not configured:
    then its last components decide.
    """
    if entry is None or entry.type is not EntryType.LINK or not entry.target:
        return None
    state = (*run.parts, _LATEST[0])
    found = leads_to(entry.path, tree, places_not_walked(special), len(run.parts))
    if found is None and entry.target.startswith("/"):
        above, _, name = entry.target.rstrip("/").rpartition("/")
        found = (*state, name) if above.endswith("/".join(("", tree.name, *state))) else None
    is_beside = found is not None and found[:-1] == state and checkpoint_step(found[-1]) is not None
    return found[-1] if found is not None and is_beside else None


def _reason(kind: Kind, rest: tuple[str, ...]) -> str:
    if kind is Kind.INCLUDED:
        return INCLUDED
    return f"{rest[1]} is wanted" if kind is Kind.CHECKPOINT else f"{kind} is always wanted"


def _find(wanted: Iterable[Wanted], rest: tuple[str, ...]) -> Source | None:
    return next((each.source for each in wanted if each.rest == rest), None)


def _step_order(directory: str) -> tuple[bool, int, str]:
    step = checkpoint_step(directory) or "0"
    return (step == "final", 0 if step == "final" else int(step), directory)


def _checkpoint(tree: Tree, run: RemotePath, step: str, members: list[Wanted]) -> Group:
    marker = _find(members, ("training_state", step, MARKER))
    path = run.child("training_state", step)
    return Group(tree, path, marker_last(members, marker), marker, needs_marker=True)
