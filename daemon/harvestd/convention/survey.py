"""From a snapshot to runs, evals and leftovers: every entry is understood as exactly one of them."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from harvestd.convention.evals import eval_home, understand_eval
from harvestd.convention.layout import EvalDir, LeftOut, RunDir, Survey
from harvestd.convention.leftovers import UNLISTED, Leftovers
from harvestd.convention.paths import RemotePath
from harvestd.convention.patterns import RunName, run_name
from harvestd.convention.selection import Exclusion, Selection, excluded_anywhere, excluded_directory
from harvestd.convention.snapshot import Entry, EntryType, Listing, Snapshot, TreeKind, TreeState
from harvestd.convention.training import understand_run


class _Home(Protocol):
    """A directory whose name says what lies below it."""

    @property
    def path(self) -> RemotePath: ...


HomeT = TypeVar("HomeT", bound=_Home)


@dataclass(frozen=True, slots=True)
class _RunHome:
    path: RemotePath
    name: RunName


@dataclass(slots=True)
class _Found(Generic[HomeT]):
    """What lies below one home."""

    home: HomeT
    entries: list[Entry] = field(default_factory=list)
    unlisted: list[RemotePath] = field(default_factory=list)


def survey(snapshot: Snapshot, selection: Selection) -> Survey:
    """Understand everything that one host's trees hold."""
    runs: list[RunDir] = []
    evals: list[EvalDir] = []
    left_out: list[LeftOut] = []
    for listing in snapshot.listings:
        if listing.state is TreeState.DENIED:
            left_out.append(LeftOut(str(listing.tree), None, 1, UNLISTED))
        elif listing.tree.kind is TreeKind.TRAINING:
            left_out += _training_tree(listing, selection, runs)
        else:
            left_out += _eval_tree(listing, selection, evals)
    return Survey(tuple(runs), tuple(evals), tuple(left_out))


def _training_tree(listing: Listing, selection: Selection, runs: list[RunDir]) -> list[LeftOut]:
    sorting = _Sorting(listing, selection, _run_home)
    runs += [
        understand_run(listing.tree, each.home.path, each.home.name, each.entries, selection, each.unlisted)
        for each in sorting.found()
    ]
    return sorting.left_out("not below a run_* directory")


def _run_home(inside: tuple[str, ...], _selection: Selection) -> _RunHome | None:
    for i, name in enumerate(inside):
        run = run_name(name)
        if run is not None:
            return _RunHome(RemotePath(inside[: i + 1]), run)
    return None


def _eval_tree(listing: Listing, selection: Selection, evals: list[EvalDir]) -> list[LeftOut]:
    sorting = _Sorting(listing, selection, eval_home)
    # A directory without a file is no eval (yet), but what can't be listed in it is to be told.
    evals += [
        understand_eval(listing.tree, each.home, each.entries, selection, each.unlisted)
        for each in sorting.found()
        if each.unlisted or any(entry.type is not EntryType.DIRECTORY for entry in each.entries)
    ]
    return sorting.left_out("not below a directory that names a run or a model")


class _Sorting(Generic[HomeT]):
    """Splits a tree into what lies below some home and what does not.

    A home that may not be listed, or that a rule excludes as a whole, is none.
    """

    def __init__(
        self, listing: Listing, selection: Selection, home_of: Callable[[tuple[str, ...], Selection], HomeT | None]
    ) -> None:
        self._selection = selection
        self._home_of = home_of
        self._homes: dict[tuple[str, ...], HomeT | None] = {}
        self._excluded: dict[RemotePath, Exclusion | None] = {}
        self._found: dict[RemotePath, _Found[HomeT]] = {}
        self._strangers: list[Entry] = []
        self._leftovers = Leftovers(listing.tree, 0)
        unlisted = frozenset(listing.unreadable)
        for path in sorted(listing.entries, key=lambda path: path.parts):
            if path not in unlisted:
                self._sort(listing.entries[path])
        for path in listing.unreadable:
            self._sort_unlisted(path)

    def _sort(self, entry: Entry) -> None:
        directory = entry.type is EntryType.DIRECTORY
        below = self._below(entry.path.parts if directory else entry.path.parts[:-1])
        if isinstance(below, _Found):
            below.entries.append(entry)
        elif below is not None and entry.type is EntryType.FILE:
            self._leftovers.add(entry, below)
        elif not directory:
            self._strangers.append(entry)

    def _sort_unlisted(self, path: RemotePath) -> None:
        below = self._below(path.parts[:-1])
        if isinstance(below, _Found):
            below.unlisted.append(path)
        else:
            self._leftovers.add_unlisted(path)

    def _below(self, inside: tuple[str, ...]) -> "_Found[HomeT] | Exclusion | None":
        if inside not in self._homes:
            # The outermost home decides; and a tree holds many more directories than homes.
            above = self._homes.get(inside[:-1])
            self._homes[inside] = above or self._home_of(inside, self._selection)
        home = self._homes[inside]
        if home is None:
            return None
        if home.path not in self._excluded:
            self._excluded[home.path] = excluded_directory(home.path.parts, self._selection)
        exclusion = self._excluded[home.path]
        if exclusion is None and home.path not in self._found:
            self._found[home.path] = _Found(home)
        return exclusion or self._found[home.path]

    def found(self) -> Iterable[_Found[HomeT]]:
        return self._found.values()

    def left_out(self, reason: str) -> list[LeftOut]:
        """Give what lies below no home; `reason` is why, where no rule says more. To be called once."""
        for home in self._found:
            self._leftovers.understood(home)
        for entry in self._strangers:
            if entry.type is EntryType.FILE:
                exclusion = excluded_anywhere(entry.path.parts, self._selection)
                self._leftovers.add(entry, exclusion or Exclusion(reason))
            else:
                self._leftovers.add_special(entry)
        return self._leftovers.collected()
