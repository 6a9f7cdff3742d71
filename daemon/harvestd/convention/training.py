"""A run's directory: which of its files the convention names, which are left out and why."""

from collections.abc import Iterable, Mapping
from operator import itemgetter

from harvestd.convention.artifacts import GROWING, Kind
from harvestd.convention.layout import Group, RunDir, Source, Wanted, marker_last
from harvestd.convention.leftovers import UNKNOWN, Leftovers
from harvestd.convention.paths import RemotePath
from harvestd.convention.patterns import EventsName, RunName, checkpoint_step, events_name, run_name
from harvestd.convention.selection import Exclusion, Exclusions, Selection
from harvestd.convention.snapshot import Entry, EntryType, Tree

_UNKNOWN = Exclusion(UNKNOWN)
MARKER = "training_info.json"
_CONFIG = ("config.yaml",)
_FINAL_INFO = ("training_state", "step_final", MARKER)
_LATEST = ("training_state", "step_latest")
_TELLING = frozenset({_CONFIG, _FINAL_INFO, ("logs", "train_log.jsonl")})
_ADAPTER = ("model", "adapter_config.json")
_ADAPTER_DEPTH = 4
"""training_state/step_N/model/adapter_config.json, counted from the run's directory."""
EVENTS_BELOW = 4
"""Levels of sub-directories of tensorboard/ whose event files are wanted: add_scalars and add_hparams make one each,
Lightning two."""


def training_kind(rest: tuple[str, ...], selection: Selection) -> Kind | Exclusion:
    """Tell what the file at `rest` below a run's directory is; total: everything gets a kind or a reason.

    What is excluded at any place is not its matter: `Exclusions` go before. Nor is which checkpoint is wanted: that
    hangs on more than its path.
    """
    match rest:
        case ("config.yaml" | "resume_config.yaml",):
            return Kind.CONFIG
        case ("logs", "train_log.jsonl"):
            return Kind.TRAIN_LOG
        case ("logs", name) if name.startswith("rollouts") or name == "ratios.jsonl":
            return Exclusion("rule: rollouts are large and never wanted", len(rest))
        case ("tensorboard", *below, name) if len(below) <= EVENTS_BELOW and name.startswith("events.out.tfevents."):
            return Kind.TENSORBOARD if selection.tensorboard else Exclusion("rule: select.tensorboard = false", 1)
        case ("training_state", directory, _, *_) if checkpoint_step(directory):
            return Kind.CHECKPOINT
    return _UNKNOWN


def run_told_of(path: RemotePath) -> RemotePath | None:
    """Give the run of which the file at `path` of a training tree says what it is; None where it says nothing."""
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
    """Sort everything below one run's directory into groups, growing files and leftovers; `entries` in any order."""
    depth = len(path.parts)
    leftovers = Leftovers(tree, depth)
    exclusions = Exclusions(selection, path.parts)
    below = {entry.path.parts[depth:]: entry for entry in entries}
    singles: list[Wanted] = []
    checkpoints: dict[str, list[Wanted]] = {}
    for rest, entry in sorted(below.items(), key=itemgetter(0)):
        if entry.type is EntryType.DIRECTORY:
            continue
        if entry.type is not EntryType.FILE:
            leftovers.add_special(entry)
            continue
        kind = exclusions.of_file(rest) or training_kind(rest, selection)
        if isinstance(kind, Exclusion):
            leftovers.add(entry, kind)
            continue
        leftovers.understood(entry.path)
        wanted = Wanted(Source(tree, entry.path, entry.version), kind, depth, _reason(kind, rest))
        if kind is Kind.CHECKPOINT:
            checkpoints.setdefault(rest[1], []).append(wanted)
        else:
            singles.append(wanted)
    for directory in unlisted:
        leftovers.add_unlisted(directory)
    events = _events(below)
    # A run that was resumed elsewhere has a file from each machine.
    writer = max(events, key=lambda name: (name.epoch, name.host), default=None)
    return RunDir(
        tree=tree,
        path=path,
        name=name,
        groups=tuple(Group.single(wanted) for wanted in singles if wanted.kind not in GROWING),
        checkpoints=tuple(_checkpoint(tree, path, step, checkpoints[step]) for step in sorted(checkpoints)),
        growing=tuple(wanted for wanted in singles if wanted.kind in GROWING),
        left_out=tuple(leftovers.collected()),
        # These two are read to understand the run, whether they are wanted or not.
        config=_source_at(tree, below, _CONFIG),
        final_info=_source_at(tree, below, _FINAL_INFO),
        latest=_latest(below.get(_LATEST)),
        adapter=_adapter(tree, below),
        writer=writer.host if writer else None,
        events_began=min((name.epoch for name in events), default=None),
    )


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


def _latest(entry: Entry | None) -> str | None:
    """Give what the link step_latest points to if it is a checkpoint beside it: the box may write anything there."""
    target = entry.target if entry and entry.type is EntryType.LINK else None
    return target if target and checkpoint_step(target) else None


def _reason(kind: Kind, rest: tuple[str, ...]) -> str:
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
