"""Classification of eval directories: the four layouts that evaluation software writes, down to the leaf directories.

A leaf is a directory with a metrics.csv.
"""

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from itertools import pairwise

from harvestd.convention.kinds import (
    RECORDS_FILES,
    EvalStep,
    Finetuned,
    Kind,
    LossKind,
    RunName,
    eval_step,
    finetuned,
    is_finetuned,
    run_name,
)
from harvestd.convention.paths import RemotePath
from harvestd.convention.rules import INCLUDED, Exclusion, Exclusions, Selection, synced_runs
from harvestd.convention.scan.model import (
    EvalContents,
    EvalDir,
    EvalGroups,
    Group,
    OnRequest,
    Source,
    Wanted,
    marker_last,
)
from harvestd.convention.scan.skipped import NO_METRICS, UNKNOWN, Leftovers
from harvestd.convention.scan.snapshot import Entry, EntryType, Tree, Version
from harvestd.convention.structs import Immutable

_RECORDS = frozenset(RECORDS_FILES)
_MARKERS = ("run_meta.json", "summary.json")
"""The file that is written last in a leaf: in layouts A to C, and in D."""
_LEAF_KINDS = {"metrics.csv": Kind.METRICS, "run_meta.json": Kind.RUN_META, "summary.json": Kind.SUMMARY}
_TOP_KINDS = {
    "eval_config.yaml": Kind.EVAL_CONFIG,
    "config.yaml": Kind.EVAL_CONFIG,
    "metadata.json": Kind.EVAL_CONFIG,
}
_CONSOLIDATED = {"consolidated_metrics.csv": Kind.METRICS, "consolidated_summary.json": Kind.SUMMARY}
_UNKNOWN = Exclusion(UNKNOWN, loss=LossKind.OUTSIDE_FILES)
NO_RECORDS = "rule: select.records = false"
"""The reason for leaving out records until they are requested."""
_REASONS = {kind: f"{kind} is always wanted" for kind in Kind} | {
    Kind.RECORDS: "rule: select.records = true",
    Kind.INCLUDED: INCLUDED,
}

_Parts = tuple[str, ...]


class EvalLocation(Immutable):
    """The directory that determines where an eval belongs, found from its path alone."""

    path: RemotePath
    run: RunName | None
    step: EvalStep | None
    finetuned: Finetuned | None


def eval_location(inside: tuple[str, ...], selection: Selection) -> EvalLocation | None:
    """Return the eval directory among the components of a path; None if there is none.

    `run_T[_dataset]` at any depth (A, D), or `{backbone}_{dataset}_finetuned/step_S_{dataset}` (B, and C with the hub's
    organisation as a level of its own); the outermost one counts. With an unknown fine-tuning dataset, `finetuned` is
    None.
    """
    for i, name in enumerate(inside):
        run = run_name(name)
        if run is not None:
            return EvalLocation(RemotePath(inside[: i + 1]), run, None, None)
        above = inside[i - 1] if i else ""
        step = eval_step(name, selection.datasets) if is_finetuned(above) else None
        if step is not None:
            return EvalLocation(RemotePath(inside[: i + 1]), None, step, finetuned(above, selection.datasets))
    return None


def eval_kind(rest: tuple[str, ...], *, in_leaf: bool, selection: Selection) -> Kind | Exclusion:
    """Return the kind or the exclusion of the file at `rest` below an eval directory. `in_leaf`: beside a metrics.csv.

    Every path has a result. General exclusions are not considered: `Exclusions` are applied before.
    """
    name, depth = rest[-1], len(rest)
    if name in _RECORDS:
        return Kind.RECORDS if selection.records else Exclusion(NO_RECORDS, depth)
    if depth == 1 and name in _TOP_KINDS:
        return _TOP_KINDS[name]
    if rest[0] == "results" and depth == 2 and name in _CONSOLIDATED:  # noqa: PLR2004  (results/NAME)
        return _CONSOLIDATED[name]
    if name in _LEAF_KINDS:
        return _LEAF_KINDS[name] if in_leaf else Exclusion(NO_METRICS, depth, LossKind.OUTSIDE_FILES)
    return _UNKNOWN


def understand_eval(
    tree: Tree,
    location: EvalLocation,
    entries: Iterable[Entry],
    selection: Selection,
    unlisted: Iterable[RemotePath] = (),
) -> EvalDir:
    """Sort all entries below one eval directory into leaves, single files and skipped entries, in any order."""
    depth = len(location.path.parts)
    leftovers = Leftovers(tree, depth)
    entries = tuple(sorted(entries, key=lambda entry: entry.path.parts))
    unlisted = tuple(unlisted)
    exclusions = Exclusions(selection, location.path.parts, synced_runs(entries, depth))
    special: list[Entry] = []
    files: list[tuple[Entry, _Parts, Exclusion | None]] = []
    for entry in entries:
        rest = entry.path.parts[depth:]
        if entry.type is EntryType.FILE:
            files.append((entry, rest, exclusions.of_file(rest)))
        elif entry.type is not EntryType.DIRECTORY:
            special.append(entry)
    leaves = {rest[:-1] for _, rest, exclusion in files if rest[-1] == "metrics.csv" and exclusion is None}
    found: list[Wanted] = []
    records: list[Wanted] = []
    witnesses: dict[_Parts, list[Version]] = {}
    for entry, rest, exclusion in files:
        directory = rest[:-1]
        kind = exclusion or eval_kind(rest, in_leaf=directory in leaves, selection=selection)
        if exclusion is None and isinstance(kind, Exclusion) and exclusions.includes(rest):
            kind = Kind.RECORDS if rest[-1] in _RECORDS else Kind.INCLUDED
        if rest[-1] in _RECORDS:
            witnesses.setdefault(directory, []).append(entry.version)
        if not isinstance(kind, Exclusion):
            leftovers.understood(entry.path)
            found.append(Wanted(Source(tree, entry.path, entry.version), kind, depth, _REASONS[kind]))
            continue
        leftovers.add(entry, kind)
        if kind.reason == NO_RECORDS:
            records.append(Wanted(Source(tree, entry.path, entry.version), Kind.RECORDS, depth, NO_RECORDS))
    leftovers.add_special(special, exclusions)
    for path in unlisted:
        leftovers.add_unlisted(path, exclusions)
    found_at = {leaf: location.path.child(*leaf) for leaf in sorted(leaves)}
    groups = _groups(tree, found, found_at, witnesses)
    return EvalDir(
        tree=tree,
        path=location.path,
        contents=EvalContents(
            EvalGroups(groups, _on_request(records, groups)),
            partial(_groups_anew, tree, location, entries, selection, unlisted),
        ),
        left_out=tuple(leftovers.collected()),
        run=location.run,
        config=_eval_config(found) if location.run else None,
        step=location.step,
        finetuned=(location.finetuned,) if location.finetuned else _tunings(leaves, selection),
        links=leftovers.links,
    )


def _groups_anew(
    tree: Tree, location: EvalLocation, entries: Iterable[Entry], selection: Selection, unlisted: Iterable[RemotePath]
) -> EvalGroups:
    return understand_eval(tree, location, entries, selection, unlisted).contents.groups()


def _groups(
    tree: Tree,
    found: Iterable[Wanted],
    leaves: Mapping[_Parts, RemotePath],
    witnesses: Mapping[_Parts, Sequence[Version]],
) -> tuple[Group, ...]:
    """Make a group of each leaf, and of each file that is in no leaf or is too large to be fetched with its leaf."""
    members: dict[_Parts, list[Wanted]] = {leaf: [] for leaf in leaves}
    apart: list[Wanted] = []
    for wanted in found:
        leaf = members.get(wanted.rest[:-1])
        if leaf is None or wanted.kind in {Kind.RECORDS, Kind.INCLUDED}:
            apart.append(wanted)
        else:
            leaf.append(wanted)
    return (
        *(_apart(tree, wanted, members.get(wanted.rest[:-1], ())) for wanted in apart),
        *(_leaf(tree, path, members[leaf], witnesses.get(leaf, ())) for leaf, path in leaves.items()),
    )


def _on_request(records: Iterable[Wanted], groups: Iterable[Group]) -> tuple[OnRequest, ...]:
    leaves = {group.path: group for group in groups}
    beside = [leaves.get(RemotePath(each.source.path.parts[:-1])) for each in records]
    return tuple(
        OnRequest(_apart(each.source.tree, each, leaf.members if leaf else ()), NO_RECORDS)
        for each, leaf in zip(records, beside, strict=True)
    )


def _leaf(tree: Tree, path: RemotePath, members: Sequence[Wanted], witnesses: Iterable[Version]) -> Group:
    marker = _marker(members)
    return Group(tree, path, marker_last(members, marker), marker, witnesses=tuple(witnesses))


def _apart(tree: Tree, wanted: Wanted, beside: Sequence[Wanted]) -> Group:
    """Make the group of a single file; the marker of its leaf also completes records."""
    marker = _marker(beside) if wanted.kind is Kind.RECORDS else None
    return Group(tree, wanted.source.path, (wanted,), marker)


def _marker(members: Sequence[Wanted]) -> Source | None:
    for name in _MARKERS:
        for member in members:
            if member.source.path[-1] == name:
                return member.source
    return None


def _eval_config(found: Iterable[Wanted]) -> Source | None:
    return next((each.source for each in found if each.source.path[each.depth :] == ("eval_config.yaml",)), None)


def _tunings(leaves: Iterable[_Parts], selection: Selection) -> tuple[Finetuned, ...]:
    """Return the fine-tunings in the paths of leaves; only a directory directly above a step directory counts."""
    above: set[str] = set()
    for leaf in leaves:
        for name, below in pairwise(leaf):
            if name not in above and is_finetuned(name) and eval_step(below, selection.datasets):
                above.add(name)
    found = {tuning for name in above if (tuning := finetuned(name, selection.datasets))}
    return tuple(sorted(found, key=lambda tuning: (tuning.backbone, tuning.dataset)))
