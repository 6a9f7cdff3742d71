"""From a snapshot to runs, evals and leftovers: every entry is understood as exactly one of them."""

from collections.abc import Iterable

from harvestd.convention.evals import EvalHome, eval_home, understand_eval
from harvestd.convention.layout import EvalDir, LeftOut, RunDir, Survey, place_of
from harvestd.convention.leftovers import Leftovers
from harvestd.convention.paths import RemotePath
from harvestd.convention.patterns import RunName, run_name
from harvestd.convention.selection import Exclusion, Selection, excluded_anywhere
from harvestd.convention.snapshot import Entry, EntryType, Listing, Snapshot, TreeKind
from harvestd.convention.training import understand_run


def survey(snapshot: Snapshot, selection: Selection) -> Survey:
    """Understand everything that one host's trees hold."""
    runs: list[RunDir] = []
    evals: list[EvalDir] = []
    left_out: list[LeftOut] = []
    for listing in snapshot.listings:
        if listing.tree.kind is TreeKind.TRAINING:
            found, strangers = _training_tree(listing, selection)
            runs += found
        else:
            seen, strangers = _eval_tree(listing, selection)
            evals += seen
        left_out += strangers
        left_out += [
            LeftOut(place_of(listing.tree, path), None, 1, "permission denied on the box")
            for path in listing.unreadable
        ]
    return Survey(tuple(runs), tuple(evals), tuple(left_out))


def _training_tree(listing: Listing, selection: Selection) -> tuple[list[RunDir], list[LeftOut]]:
    homes: dict[RemotePath, tuple[RunName, list[Entry]]] = {}
    strangers: list[Entry] = []
    for entry in _in_order(listing):
        home = _run_home(entry)
        if home is None:
            strangers.append(entry)
        else:
            homes.setdefault(home[0], (home[1], []))[1].append(entry)
    runs = [understand_run(listing.tree, path, name, entries, selection) for path, (name, entries) in homes.items()]
    return runs, _strangers(listing, strangers, "not below a run_* directory", selection)


def _run_home(entry: Entry) -> tuple[RemotePath, RunName] | None:
    inside = entry.path.parts if entry.type is EntryType.DIRECTORY else entry.path.parts[:-1]
    for i, name in enumerate(inside):
        run = run_name(name)
        if run is not None:
            return RemotePath(inside[: i + 1]), run
    return None


def _eval_tree(listing: Listing, selection: Selection) -> tuple[list[EvalDir], list[LeftOut]]:
    homes: dict[RemotePath, tuple[EvalHome, list[Entry]]] = {}
    strangers: list[Entry] = []
    for entry in _in_order(listing):
        home = eval_home(entry.path, selection)
        if home is None:
            strangers.append(entry)
        else:
            homes.setdefault(home.path, (home, []))[1].append(entry)
    evals = [understand_eval(listing.tree, home, entries, selection) for home, entries in homes.values()]
    return evals, _strangers(listing, strangers, "not below a directory that names a run or a model", selection)


def _strangers(listing: Listing, entries: Iterable[Entry], reason: str, selection: Selection) -> list[LeftOut]:
    leftovers = Leftovers(listing.tree, 0)
    for entry in entries:
        if entry.type is EntryType.FILE:
            exclusion = excluded_anywhere(entry.path.parts, selection)
            leftovers.add(entry, exclusion or Exclusion(reason, max(1, len(entry.path.parts) - 1)))
        elif entry.type is not EntryType.DIRECTORY:
            leftovers.add_special(entry)
    return leftovers.collected()


def _in_order(listing: Listing) -> list[Entry]:
    return [listing.entries[path] for path in sorted(listing.entries)]
