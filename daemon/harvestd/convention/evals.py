"""An eval tree: the four layouts that box software writes, walked down to the leaves that hold a metrics.csv."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harvestd.convention.artifacts import Kind
from harvestd.convention.layout import EvalDir, Group, Source, Wanted
from harvestd.convention.leftovers import Leftovers
from harvestd.convention.paths import RemotePath
from harvestd.convention.patterns import EvalStep, Finetuned, RunName, eval_step, finetuned, run_name
from harvestd.convention.selection import Exclusion, Selection, excluded_anywhere
from harvestd.convention.snapshot import Entry, EntryType, Tree, Version

_RECORDS = frozenset({"records.jsonl.gz", "predictions.jsonl", "completions.jsonl"})
_MARKERS = ("run_meta.json", "summary.json")
"""What a leaf's writer writes last: in layouts A to C, and in D."""
_LEAF_KINDS = {"metrics.csv": Kind.METRICS, "run_meta.json": Kind.RUN_META, "summary.json": Kind.SUMMARY}
_TOP_KINDS = {
    "eval_config.yaml": Kind.EVAL_CONFIG,
    "config.yaml": Kind.EVAL_CONFIG,
    "metadata.json": Kind.EVAL_CONFIG,
}
_CONSOLIDATED = {"consolidated_metrics.csv": Kind.METRICS, "consolidated_summary.json": Kind.SUMMARY}
_UNKNOWN = "not part of the convention"


@dataclass(frozen=True, slots=True)
class EvalHome:
    """The directory that decides where an eval belongs, found from its path alone."""

    path: RemotePath
    run: RunName | None
    step: EvalStep | None
    finetuned: Finetuned | None


def eval_home(path: RemotePath, selection: Selection) -> EvalHome | None:
    """Find the eval directory that `path` lies below; None where no name on the way says what it is.

    `run_T[_dataset]` at any depth (A, D), else `{backbone}_{dataset}_finetuned/step_S_{dataset}` (B, and C with the
    hub's organisation as a level of its own).
    """
    parts = path.parts
    for i, name in enumerate(parts[:-1]):
        run = run_name(name)
        if run is not None:
            return EvalHome(RemotePath(parts[: i + 1]), run, None, None)
    for i, (above, name) in enumerate(pairwise(parts[:-1])):
        tuned = finetuned(above, selection.datasets)
        step = eval_step(name, selection.datasets)
        if tuned is not None and step is not None:
            return EvalHome(RemotePath(parts[: i + 2]), None, step, tuned)
    return None


def eval_kind(rest: tuple[str, ...], *, in_leaf: bool, selection: Selection) -> Kind | Exclusion:
    """Tell what the file at `rest` below an eval directory is; total. `in_leaf`: a metrics.csv lies beside it."""
    name, depth = rest[-1], len(rest)
    excluded = excluded_anywhere(rest, selection)
    if excluded is not None:
        return excluded
    if name in _RECORDS:
        return Kind.RECORDS if selection.records else Exclusion("rule: select.records = false", depth)
    if depth == 1 and name in _TOP_KINDS:
        return _TOP_KINDS[name]
    if rest[0] == "results" and depth == 2 and name in _CONSOLIDATED:  # noqa: PLR2004  (results/NAME)
        return _CONSOLIDATED[name]
    if name in _LEAF_KINDS:
        return _LEAF_KINDS[name] if in_leaf else Exclusion("no metrics.csv beside it", depth)
    return Exclusion(_UNKNOWN, depth if in_leaf else 1)


def understand_eval(tree: Tree, home: EvalHome, entries: Sequence[Entry], selection: Selection) -> EvalDir:
    """Sort everything below one eval directory into leaves, single files and leftovers."""
    depth = len(home.path.parts)
    leftovers = Leftovers(tree, depth)
    leaves = {entry.path.parts[:-1] for entry in entries if entry.path.name == "metrics.csv" and _is_file(entry)}
    members: dict[tuple[str, ...], list[Wanted]] = {}
    witnesses: dict[tuple[str, ...], list[Version]] = {}
    groups: list[Group] = []
    for entry in entries:
        if entry.type is EntryType.DIRECTORY:
            continue
        if not _is_file(entry):
            leftovers.add_special(entry)
            continue
        parent, rest = entry.path.parts[:-1], entry.path.parts[depth:]
        kind = eval_kind(rest, in_leaf=parent in leaves, selection=selection)
        if isinstance(kind, Exclusion):
            leftovers.add(entry, kind)
            if entry.path.name in _RECORDS:
                witnesses.setdefault(parent, []).append(entry.version)
            continue
        wanted = Wanted(Source(tree, entry.path, entry.version), kind, rest, f"{kind} is wanted")
        if parent in leaves:
            members.setdefault(parent, []).append(wanted)
        else:
            groups.append(Group.single(wanted))
    groups += [_leaf(tree, parent, members[parent], witnesses.get(parent, ())) for parent in sorted(members)]
    return EvalDir(
        tree=tree,
        path=home.path,
        groups=tuple(groups),
        left_out=tuple(leftovers.collected()),
        run=home.run,
        config=_eval_config(groups) if home.run else None,
        step=home.step,
        finetuned=(home.finetuned,) if home.finetuned else _tunings(leaves, depth, selection),
    )


def _is_file(entry: Entry) -> bool:
    return entry.type is EntryType.FILE


def _leaf(tree: Tree, parent: tuple[str, ...], members: list[Wanted], witnesses: Iterable[Version]) -> Group:
    by_name = {member.source.path.name: member.source for member in members}
    marker = next((by_name[name] for name in _MARKERS if name in by_name), None)
    ordered = sorted(members, key=lambda member: (member.source == marker, member.rest))
    return Group(tree, RemotePath(parent), tuple(ordered), marker, witnesses=tuple(witnesses))


def _eval_config(groups: Iterable[Group]) -> Source | None:
    files = (member for group in groups for member in group.members)
    return next((each.source for each in files if each.rest == ("eval_config.yaml",)), None)


def _tunings(leaves: Iterable[tuple[str, ...]], depth: int, selection: Selection) -> tuple[Finetuned, ...]:
    found = (finetuned(name, selection.datasets) for leaf in leaves for name in leaf[depth:])
    return tuple(sorted({tuning for tuning in found if tuning}, key=lambda tuning: (tuning.backbone, tuning.dataset)))
