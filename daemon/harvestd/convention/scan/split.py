"""Partitions a tree by its run or eval directories, which are recognised by their names.

The times of a directory entry are ignored; only its existence counts.
"""

from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from msgspec import Struct, field

from harvestd.convention.kinds import LossKind
from harvestd.convention.paths import RemotePath
from harvestd.convention.rules import Exclusion, Exclusions, Selection
from harvestd.convention.scan.model import LeftOut, SymbolicLink
from harvestd.convention.scan.skipped import Leftovers
from harvestd.convention.scan.snapshot import Entry, EntryType, Listing, Tree
from harvestd.convention.scan.wandb import synced_runs


class Home(Protocol):
    """A run or eval directory: its name determines the meaning of everything below it."""

    @property
    def path(self) -> RemotePath:
        """The path in its tree."""
        ...


HomeT = TypeVar("HomeT", bound=Home)

_Parts = tuple[str, ...]


class Below(Struct, Generic[HomeT]):
    """Everything below one run or eval directory, in the listing's order. Equal ones have equal classifications."""

    home: HomeT
    entries: list[Entry] = field(default_factory=list)
    """All entries except directories."""
    unlisted: list[RemotePath] = field(default_factory=list)


class _Outside(Struct):
    """Entries below no run or eval directory, or below one that a rule excludes as a whole."""

    exclusion: Exclusion | None
    entries: list[Entry] = field(default_factory=list)
    unlisted: list[RemotePath] = field(default_factory=list)


class SortedTree(Generic[HomeT]):
    """A tree, partitioned into the content of each run or eval directory and the rest.

    Of nested ones the outermost counts. One that can't be listed, or that a rule excludes as a whole, does not count.
    """

    def __init__(
        self, listing: Listing, selection: Selection, home_of: Callable[[_Parts, Selection], HomeT | None]
    ) -> None:
        """Split `listing`; `home_of` finds a run or eval directory among the components of a path, by names alone."""
        self._selection = selection
        self._home_of = home_of
        self._exclusions = Exclusions(selection)
        self._strangers = _Outside(None)
        self._outside = [self._strangers]
        self._found: list[Below[HomeT]] = []
        self._directories: dict[_Parts, Below[HomeT] | _Outside] = {(): self._strangers}
        unlisted = frozenset(path.parts for path in listing.unreadable)
        for entry in listing.entries.values():
            parts = entry.path.parts
            if unlisted and parts in unlisted:
                continue
            if entry.type is EntryType.DIRECTORY:
                self._place_of(parts)
            else:
                self._place_of(parts[:-1]).entries.append(entry)
        for path in listing.unreadable:
            self._place_of(path.parts[:-1]).unlisted.append(path)

    def _place_of(self, inside: _Parts) -> "Below[HomeT] | _Outside":
        place = self._directories.get(inside)
        if place is None:
            # Most directories are below a run or eval directory: their own names need not be parsed.
            above = self._directories.get(inside[:-1]) or self._place_of(inside[:-1])
            place = self._opened(inside) if above is self._strangers else above
            self._directories[inside] = place
        return place

    def _opened(self, inside: _Parts) -> "Below[HomeT] | _Outside":
        home = self._home_of(inside, self._selection)
        if home is None:
            return self._strangers
        exclusion = self._exclusions.of_directory(home.path.parts)
        if exclusion is None:
            self._found.append(Below(home))
            return self._found[-1]
        self._outside.append(_Outside(exclusion))
        return self._outside[-1]

    def homes(self) -> list[Below[HomeT]]:
        """Return the content of each run or eval directory, in the order of their paths."""
        return sorted(self._found, key=lambda below: below.home.path.parts)

    def left_out(self, tree: Tree, reason: str) -> tuple[list[LeftOut], tuple[SymbolicLink, ...]]:
        """Return what is below no run or eval directory, and the links there; `reason` applies if no rule does."""
        leftovers = Leftovers(tree, 0)
        exclusions = Exclusions(self._selection, synced=synced_runs(self._strangers.entries))
        unknown = Exclusion(reason, loss=LossKind.OUTSIDE_FILES)
        special: list[Entry] = []
        for below in self._found:
            leftovers.understood(below.home.path)
        for outside in self._outside:
            for entry in outside.entries:
                if entry.type is EntryType.FILE:
                    leftovers.add(entry, outside.exclusion or exclusions.of_file(entry.path.parts) or unknown)
                else:
                    special.append(entry)
            for path in outside.unlisted:
                leftovers.add_unlisted(path, exclusions)
        leftovers.add_special(special, exclusions)
        return leftovers.collected(), leftovers.links
