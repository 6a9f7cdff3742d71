"""Partitions a tree by its run or eval directories, which are recognised by their names.

The times of a directory entry are ignored; only its existence counts.
"""

from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Generic, Protocol, TypeVar

from msgspec import Struct, field

from harvestd.convention.kinds import LossKind
from harvestd.convention.paths import RemotePath
from harvestd.convention.rules import Exclusion, Exclusions, Selection, synced_runs
from harvestd.convention.scan.model import LeftOut, SymbolicLink
from harvestd.convention.scan.skipped import Leftovers
from harvestd.convention.scan.snapshot import Delta, Entry, EntryType, Listing, Tree


class Location(Protocol):
    """A run or eval directory: its name determines the meaning of everything below it."""

    @property
    def path(self) -> RemotePath:
        """The path in its tree."""
        ...


LocationT = TypeVar("LocationT", bound=Location)

_Parts = tuple[str, ...]
_AT_A_STRETCH = 1000
"""Entries."""


class Below(Struct, Generic[LocationT], eq=False):
    """Everything below one run or eval directory, in the listing's order."""

    location: LocationT
    entries: dict[RemotePath, Entry] = field(default_factory=dict)
    """All entries except directories."""
    unlisted: list[RemotePath] = field(default_factory=list)

    def is_like(self, other: "Below[LocationT]") -> bool:
        """Return whether the other one has the same classification."""
        same = self.location == other.location and self.unlisted == other.unlisted
        return same and list(self.entries.values()) == list(other.entries.values())


class _Outside(Struct, eq=False):
    """Entries below no run or eval directory, or below one that a rule excludes as a whole."""

    exclusion: Exclusion | None
    entries: dict[RemotePath, Entry] = field(default_factory=dict)
    unlisted: list[RemotePath] = field(default_factory=list)


class Changed(Struct, Generic[LocationT]):
    """What changed in a split tree."""

    below: list[Below[LocationT]]
    """The run and eval directories with changes, new ones included."""
    vanished: list[Below[LocationT]]
    """The run and eval directories that are gone."""
    is_outside: bool
    """Whether what is left out of the tree may be different."""


class SortedTree(Generic[LocationT]):
    """A tree, partitioned into the content of each run or eval directory and the rest.

    Of nested ones the outermost counts. One that can't be listed, or that a rule excludes as a whole, does not count.
    """

    def __init__(
        self, listing: Listing, selection: Selection, location_of: Callable[[_Parts, Selection], LocationT | None]
    ) -> None:
        """Prepare to split `listing` (`fill`).

        `location_of` finds a run or eval directory among the components of a path, by names alone.
        """
        self._listing = listing
        self._selection = selection
        self._location_of = location_of
        self._exclusions = Exclusions(selection)
        self._strangers = _Outside(None)
        self._outside = [self._strangers]
        self._found: list[Below[LocationT]] = []
        self._directories: dict[_Parts, Below[LocationT] | _Outside] = {(): self._strangers}
        """Run and eval directories, and those in none; most are below one of the former, and are not kept."""
        self._latest: tuple[_Parts, Below[LocationT] | _Outside] = (), self._strangers
        """The directory that was looked up last: the entries of one come one after the other."""
        self._unlisted = frozenset(path.parts for path in listing.unreadable)

    def fill(self) -> Iterator[None]:
        """Split the whole listing; yield where this may be interrupted."""
        for number, entry in enumerate(self._listing.entries.values()):
            self._put(entry)
            if number % _AT_A_STRETCH == 0:
                yield
        for path in self._listing.unreadable:
            self._place_of(path.parts[:-1]).unlisted.append(path)

    def _put(self, entry: Entry) -> "Below[LocationT] | _Outside | None":
        parts = entry.path.parts
        if self._unlisted and parts in self._unlisted:
            return None
        if entry.type is EntryType.DIRECTORY:
            return self._place_of(parts)
        place = self._place_of(parts[:-1])
        place.entries[entry.path] = entry
        return place

    def update(self, listing: Listing) -> "Changed[LocationT] | None":
        """Apply what changed since the listing that this was made of; return it.

        None: nothing was applied, and all of the tree has to be split again.
        """
        before, delta = self._listing, listing.delta_since(self._listing.stamp)
        if delta is None or listing.unreadable != before.unreadable:
            return None
        found = self._changed_before(listing, delta)
        if found is None:
            return None
        touched, removed = found
        count = len(self._found)
        self._listing = listing
        for path in removed:
            self._place_of(path.parts[:-1]).entries.pop(path, None)
        for path in delta.changed:
            entry, opened = listing.entries.get(path), len(self._found)
            place = None if entry is None else self._put(entry)
            if place is not None and (path in place.entries or len(self._found) > opened):
                touched[id(place)] = place
        below = [each for each in touched.values() if isinstance(each, Below)]
        vanished = self._vanished(below)
        is_outside = len(below) < len(touched) or len(self._found) != count or bool(vanished)
        gone = set(map(id, vanished))
        return Changed([each for each in below if id(each) not in gone], vanished, is_outside)

    def _changed_before(
        self, listing: Listing, delta: Delta
    ) -> "tuple[dict[int, Below[LocationT] | _Outside], list[RemotePath]] | None":
        """Return where earlier entries changed, by the objects' ids, and the paths of those to remove.

        None: a run or eval directory may be gone.
        """
        touched: dict[int, Below[LocationT] | _Outside] = {}
        removed: list[RemotePath] = []
        gone = frozenset(delta.gone)
        for path in dict.fromkeys((*delta.gone, *delta.changed)):
            old, new = self._listing.entries.get(path), listing.entries.get(path)
            if old is None or path.parts in self._unlisted:
                continue
            is_directory = new is not None and new.type is EntryType.DIRECTORY
            if old.type is EntryType.DIRECTORY and is_directory:
                continue
            place = self._place_of(path.parts[:-1])
            if old.type is EntryType.DIRECTORY and isinstance(place, _Outside):
                return None
            touched[id(place)] = place
            if new is None or is_directory or path in gone:
                removed.append(path)
        return touched, removed

    def _vanished(self, below: Iterable[Below[LocationT]]) -> list[Below[LocationT]]:
        """Remove those of `below` that do not exist any more, and return them."""
        empty = {each.location.path.parts: each for each in below if not each.entries and not each.unlisted}
        standing = self._with_directories(empty)
        vanished = [each for parts, each in empty.items() if parts not in standing]
        if vanished:
            gone = set(map(id, vanished))
            self._found = [each for each in self._found if id(each) not in gone]
            self._directories = {parts: place for parts, place in self._directories.items() if id(place) not in gone}
            self._latest = (), self._strangers
        return vanished

    def _with_directories(self, count: Collection[_Parts]) -> set[_Parts]:
        """Return those of `directories` at or below which a directory is listed."""
        depths = {len(parts) for parts in count}
        found: set[_Parts] = set()
        for entry in self._listing.entries.values() if count else ():
            if entry.type is EntryType.DIRECTORY:
                found.update(entry.path.parts[:depth] for depth in depths if len(entry.path.parts) >= depth)
        return found.intersection(count)

    def _place_of(self, inside: _Parts) -> "Below[LocationT] | _Outside":
        if inside == self._latest[0]:
            return self._latest[1]
        place = self._directories.get(inside)
        if place is None:
            place = self._place_of(inside[:-1])
            # The names of directories below a run or eval directory need not be parsed.
            if place is self._strangers:
                place = self._directories[inside] = self._opened(inside)
        self._latest = inside, place
        return place

    def _opened(self, inside: _Parts) -> "Below[LocationT] | _Outside":
        location = self._location_of(inside, self._selection)
        if location is None:
            return self._strangers
        exclusion = self._exclusions.of_directory(location.path.parts)
        if exclusion is None:
            self._found.append(Below(location))
            return self._found[-1]
        self._outside.append(_Outside(exclusion))
        return self._outside[-1]

    def directories(self) -> list[Below[LocationT]]:
        """Return the content of each run or eval directory, in the order of their paths."""
        return sorted(self._found, key=lambda below: below.location.path.parts)

    def left_out(self, tree: Tree, reason: str) -> tuple[list[LeftOut], tuple[SymbolicLink, ...]]:
        """Return what is below no run or eval directory, and the links there; `reason` applies if no rule does."""
        leftovers = Leftovers(tree, 0)
        exclusions = Exclusions(self._selection, synced=synced_runs(self._strangers.entries.values()))
        unknown = Exclusion(reason, loss=LossKind.OUTSIDE_FILES)
        special: list[Entry] = []
        for below in self._found:
            leftovers.understood(below.location.path)
        for outside in self._outside:
            for entry in outside.entries.values():
                if entry.type is EntryType.FILE:
                    leftovers.add(entry, outside.exclusion or exclusions.of_file(entry.path.parts) or unknown)
                else:
                    special.append(entry)
            for path in outside.unlisted:
                leftovers.add_unlisted(path, exclusions)
        leftovers.add_special(special, exclusions)
        return leftovers.collected(), leftovers.links
