"""Classifies a snapshot into runs, evals and skipped entries: every entry belongs to exactly one of them.

A tree is scanned repeatedly, and little changes between scans. The classification of a run or eval directory depends
only on what is below it, so a `Surveyor` reuses the previous result for each directory without changes below it. The
result always equals that of `survey`, which starts from nothing.
"""

from collections.abc import Callable, Mapping
from typing import Generic, TypeVar

from harvestd.convention.kinds import RunName, run_name
from harvestd.convention.paths import RemotePath
from harvestd.convention.rules import Selection
from harvestd.convention.scan.evals import EvalLocation, eval_location, understand_eval
from harvestd.convention.scan.model import EvalDir, LeftOut, RunDir, ScanResult, SymbolicLink
from harvestd.convention.scan.skipped import BROKEN_LINK, NO_EVAL, NO_RUN, UNLISTED
from harvestd.convention.scan.snapshot import Listing, Snapshot, Tree, TreeKind, TreeState
from harvestd.convention.scan.split import Below, Changed, LocationT, SortedTree
from harvestd.convention.scan.training import understand_run
from harvestd.convention.structs import Immutable, Steps, finished

DirT = TypeVar("DirT")


class _RunLocation(Immutable):
    path: RemotePath
    name: RunName


class _Seen(Immutable, Generic[LocationT, DirT]):
    """The classification of a tree, and the listing it was made from."""

    listing: Listing
    split: SortedTree[LocationT]
    """Of the listing; the next classification changes it."""
    below: Mapping[RemotePath, tuple[Below[LocationT], DirT]]
    """By the path of the run or eval directory."""
    left_out: list[LeftOut]
    links: tuple[SymbolicLink, ...]

    @property
    def found(self) -> list[DirT]:
        return [directory for _, directory in self.below.values()]

    def shows(self, listing: Listing) -> bool:
        # The entries of a listing are replaced at the next scan, never changed; comparing them one by one costs more.
        return self.listing.entries is listing.entries and self.listing.unreadable == listing.unreadable


class _Convention(Immutable, Generic[LocationT, DirT]):
    """The classification functions for one kind of tree."""

    location_of: Callable[[tuple[str, ...], Selection], LocationT | None]
    understand: Callable[[Tree, Below[LocationT], Selection], DirT | None]
    strangers: str
    """The reason for leaving out what is below no run or eval directory."""

    def see(
        self, listing: Listing, selection: Selection, before: _Seen[LocationT, DirT] | None
    ) -> Steps[_Seen[LocationT, DirT]]:
        """Classify a tree; `before` is the result for an earlier listing of it and the same selection."""
        if before is not None:
            if before.shows(listing):
                return before
            changed = before.split.update(listing)
            if changed is not None:
                return (yield from self._see_changed(listing, selection, before, changed))
        split = SortedTree(listing, selection, self.location_of)
        yield from split.fill()
        known = before.below if before is not None else {}
        below: dict[RemotePath, tuple[Below[LocationT], DirT]] = {}
        for each in split.directories():
            unchanged = known.get(each.location.path)
            if unchanged is not None and unchanged[0].is_like(each):
                below[each.location.path] = (each, unchanged[1])
                continue
            directory = self.understand(listing.tree, each, selection)
            if directory is not None:
                below[each.location.path] = (each, directory)
            yield
        return _Seen(listing, split, below, *split.left_out(listing.tree, self.strangers))

    def _see_changed(
        self, listing: Listing, selection: Selection, before: _Seen[LocationT, DirT], changed: Changed[LocationT]
    ) -> Steps[_Seen[LocationT, DirT]]:
        """Classify the directories that changed; the others stay as they are."""
        below = dict(before.below)
        for each in changed.vanished:
            below.pop(each.location.path, None)
        for each in changed.below:
            yield
            directory = self.understand(listing.tree, each, selection)
            if directory is None:
                below.pop(each.location.path, None)
            else:
                below[each.location.path] = (each, directory)
        if below.keys() - before.below.keys():
            below = {path: below[path] for path in sorted(below, key=lambda path: path.parts)}
        if not changed.is_outside:
            return _Seen(listing, before.split, below, before.left_out, before.links)
        return _Seen(listing, before.split, below, *before.split.left_out(listing.tree, self.strangers))


def _run_location(inside: tuple[str, ...], _selection: Selection) -> _RunLocation | None:
    for i, name in enumerate(inside):
        run = run_name(name)
        if run is not None:
            return _RunLocation(RemotePath(inside[: i + 1]), run)
    return None


def _run_dir(tree: Tree, below: Below[_RunLocation], selection: Selection) -> RunDir:
    return understand_run(
        tree, below.location.path, below.location.name, list(below.entries.values()), selection, below.unlisted
    )


def _eval_dir(tree: Tree, below: Below[EvalLocation], selection: Selection) -> EvalDir | None:
    # A directory without a file is not an eval (yet), but unreadable directories in it must be reported.
    if not below.entries and not below.unlisted:
        return None
    return understand_eval(tree, below.location, list(below.entries.values()), selection, below.unlisted)


_TRAINING = _Convention(_run_location, _run_dir, NO_RUN)
_EVAL = _Convention(eval_location, _eval_dir, NO_EVAL)


class Surveyor:
    """Classifies the successive snapshots of one host."""

    def __init__(self) -> None:
        self._selection: Selection | None = None
        self._runs: dict[Tree, _Seen[_RunLocation, RunDir]] = {}
        self._evals: dict[Tree, _Seen[EvalLocation, EvalDir]] = {}

    def survey(self, snapshot: Snapshot, selection: Selection) -> ScanResult:
        """Classify everything in the host's trees."""
        return finished(self.surveying(snapshot, selection))

    def surveying(self, snapshot: Snapshot, selection: Selection) -> Steps[ScanResult]:
        """Do the same as `survey`, and yield where it may be interrupted; call nothing else meanwhile."""
        if selection != self._selection:
            self._runs, self._evals = {}, {}
            self._selection = selection
        runs: list[_Seen[_RunLocation, RunDir]] = []
        evals: list[_Seen[EvalLocation, EvalDir]] = []
        left_out: list[LeftOut] = []
        for listing in snapshot.listings:
            if listing.state is TreeState.DENIED:
                left_out.append(LeftOut(str(listing.tree), None, 1, UNLISTED))
            elif listing.state is TreeState.BROKEN_LINK:
                left_out.append(LeftOut(str(listing.tree), None, 1, BROKEN_LINK))
            elif listing.state is TreeState.TWIN:
                left_out.append(
                    LeftOut(str(listing.tree), 0, 0, "another root or tree leads to the same directory: taken there")
                )
            elif listing.tree.kind is TreeKind.TRAINING:
                runs.append((yield from _TRAINING.see(listing, selection, self._runs.pop(listing.tree, None))))
                left_out += runs[-1].left_out
            else:
                evals.append((yield from _EVAL.see(listing, selection, self._evals.pop(listing.tree, None))))
                left_out += evals[-1].left_out
        self._runs = {seen.listing.tree: seen for seen in runs}
        self._evals = {seen.listing.tree: seen for seen in evals}
        return ScanResult(
            tuple(run for seen in runs for run in seen.found),
            tuple(eval_dir for seen in evals for eval_dir in seen.found),
            tuple(left_out),
            (*(link for seen in runs for link in seen.links), *(link for seen in evals for link in seen.links)),
        )


def survey(snapshot: Snapshot, selection: Selection) -> ScanResult:
    """Classify everything in one host's trees, without an earlier result."""
    return Surveyor().survey(snapshot, selection)
