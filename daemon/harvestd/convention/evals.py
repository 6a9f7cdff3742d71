"""An eval tree: the four layouts that box software writes, walked down to the leaves that hold a metrics.csv."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

from harvestd.convention.artifacts import Kind
from harvestd.convention.layout import EvalDir, Group, Source, Wanted
from harvestd.convention.leftovers import Leftovers
from harvestd.convention.paths import RemotePath
from harvestd.convention.patterns import EvalStep, Finetuned, RunName, eval_step, finetuned, is_finetuned, run_name
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
_UNKNOWN = Exclusion("not part of the convention")


@dataclass(frozen=True, slots=True)
class EvalHome:
    """The directory that decides where an eval belongs, found from its path alone."""

    path: RemotePath
    run: RunName | None
    step: EvalStep | None
    finetuned: Finetuned | None


def eval_home(inside: tuple[str, ...], selection: Selection) -> EvalHome | None:
    """Find the eval directory among a directory's components; None where none of them says what it is.

    `run_T[_dataset]` at any depth (A, D), or `{backbone}_{dataset}_finetuned/step_S_{dataset}` (B, and C with the
    hub's organisation as a level of its own); the outermost decides. A fine-tuning dataset that nobody told us leaves
    `finetuned` empty.
    """
    for i, name in enumerate(inside):
        run = run_name(name)
        if run is not None:
            return EvalHome(RemotePath(inside[: i + 1]), run, None, None)
        above = inside[i - 1] if i else ""
        step = eval_step(name, selection.datasets) if is_finetuned(above) else None
        if step is not None:
            return EvalHome(RemotePath(inside[: i + 1]), None, step, finetuned(above, selection.datasets))
    return None


def eval_kind(rest: tuple[str, ...], *, in_leaf: bool, selection: Selection) -> Kind | Exclusion:
    """Tell what the file at `rest` below an eval directory is; total. `in_leaf`: a metrics.csv lies beside it.

    What is excluded at any place is not its matter: `excluded_anywhere` goes before.
    """
    name, depth = rest[-1], len(rest)
    if name in _RECORDS:
        return Kind.RECORDS if selection.records else Exclusion("rule: select.records = false", depth)
    if depth == 1 and name in _TOP_KINDS:
        return _TOP_KINDS[name]
    if rest[0] == "results" and depth == 2 and name in _CONSOLIDATED:  # noqa: PLR2004  (results/NAME)
        return _CONSOLIDATED[name]
    if name in _LEAF_KINDS:
        return _LEAF_KINDS[name] if in_leaf else Exclusion("no metrics.csv beside it", depth)
    return _UNKNOWN


def understand_eval(
    tree: Tree, home: EvalHome, entries: Sequence[Entry], selection: Selection, unlisted: Iterable[RemotePath] = ()
) -> EvalDir:
    """Sort everything below one eval directory into leaves, single files and leftovers."""
    depth = len(home.path.parts)
    leftovers = Leftovers(tree, depth)
    found: list[Wanted] = []
    excluded: list[tuple[Entry, Exclusion]] = []
    leaves = _leaves(home, entries, selection)
    for entry in entries:
        if entry.type is EntryType.DIRECTORY:
            continue
        if not _is_file(entry):
            leftovers.add_special(entry)
            continue
        rest = entry.path.parts[depth:]
        in_leaf = entry.path.parts[:-1] in leaves
        exclusion = excluded_anywhere(rest, selection, home.path.parts)
        kind = exclusion or eval_kind(rest, in_leaf=in_leaf, selection=selection)
        if isinstance(kind, Exclusion):
            excluded.append((entry, kind))
        else:
            leftovers.understood(entry.path)
            found.append(Wanted(Source(tree, entry.path, entry.version), kind, rest, _reason(kind)))
    for entry, exclusion in excluded:
        leftovers.add(entry, exclusion)
    for directory in unlisted:
        leftovers.add_unlisted(directory)
    return EvalDir(
        tree=tree,
        path=home.path,
        groups=_groups(tree, found, leaves, [entry for entry, _ in excluded]),
        left_out=tuple(leftovers.collected()),
        run=home.run,
        config=_eval_config(found) if home.run else None,
        step=home.step,
        finetuned=(home.finetuned,) if home.finetuned else _tunings(leaves, depth, selection),
    )


def _leaves(home: EvalHome, entries: Iterable[Entry], selection: Selection) -> set[tuple[str, ...]]:
    depth = len(home.path.parts)
    metrics = (each for each in entries if each.path.name == "metrics.csv" and _is_file(each))
    return {
        each.path.parts[:-1]
        for each in metrics
        if excluded_anywhere(each.path.parts[depth:], selection, home.path.parts) is None
    }


def _reason(kind: Kind) -> str:
    return "rule: select.records = true" if kind is Kind.RECORDS else f"{kind} is always wanted"


def _is_file(entry: Entry) -> bool:
    return entry.type is EntryType.FILE


def _groups(
    tree: Tree, found: Iterable[Wanted], leaves: Collection[tuple[str, ...]], excluded: Iterable[Entry]
) -> tuple[Group, ...]:
    """Make a group of each leaf, and of each file that belongs to no leaf or is too large to hold one up."""
    members: dict[tuple[str, ...], list[Wanted]] = {leaf: [] for leaf in sorted(leaves)}
    witnesses: dict[tuple[str, ...], list[Version]] = {}
    apart: list[Wanted] = []
    for entry in excluded:
        if entry.path.name in _RECORDS:
            witnesses.setdefault(entry.path.parts[:-1], []).append(entry.version)
    for wanted in found:
        parent = wanted.source.path.parts[:-1]
        if wanted.kind is Kind.RECORDS:
            witnesses.setdefault(parent, []).append(wanted.source.version)
        if parent in members and wanted.kind is not Kind.RECORDS:
            members[parent].append(wanted)
        else:
            apart.append(wanted)
    return (
        *(_apart(tree, wanted, members.get(wanted.source.path.parts[:-1], ())) for wanted in apart),
        *(_leaf(tree, parent, members[parent], witnesses.get(parent, ())) for parent in members),
    )


def _leaf(tree: Tree, parent: tuple[str, ...], members: list[Wanted], witnesses: Iterable[Version]) -> Group:
    marker = _marker(members)
    ordered = sorted(members, key=lambda member: (member.source == marker, member.rest))
    return Group(tree, RemotePath(parent), tuple(ordered), marker, witnesses=tuple(witnesses))


def _apart(tree: Tree, wanted: Wanted, beside: Iterable[Wanted]) -> Group:
    """Make the group of one file alone; the marker of the leaf that it lies in seals records as well."""
    marker = _marker(beside) if wanted.kind is Kind.RECORDS else None
    return Group(tree, wanted.source.path, (wanted,), marker)


def _marker(members: Iterable[Wanted]) -> Source | None:
    by_name = {member.source.path.name: member.source for member in members}
    return next((by_name[name] for name in _MARKERS if name in by_name), None)


def _eval_config(found: Iterable[Wanted]) -> Source | None:
    return next((each.source for each in found if each.rest == ("eval_config.yaml",)), None)


def _tunings(leaves: Iterable[tuple[str, ...]], depth: int, selection: Selection) -> tuple[Finetuned, ...]:
    """Give what the way to the leaves says; only a directory right above a step's says anything."""
    pairs = {pair for leaf in leaves for pair in pairwise(leaf[depth:])}
    above = {name for name, below in pairs if eval_step(below, selection.datasets)}
    found = {tuning for name in above if (tuning := finetuned(name, selection.datasets))}
    return tuple(sorted(found, key=lambda tuning: (tuning.backbone, tuning.dataset)))
