"""Maintain the content of a host's trees from a probe's changes; pure but for the state of the last scan.

A scan counts only when it is complete: a snapshot is made after the end of one. Where a link breaks within a scan, the
owner discards this object.
"""

from itertools import count

from msgspec import Struct, field
from msgspec.structs import replace

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.snapshot import Delta, Entry, Listing, Snapshot, Tree, TreeState
from harvestd.remote.api import Limits
from harvestd.remote.probe.decode import ScanEnd, ScanPart
from harvestd.remote.probe.decode_records import BrokenAnswer

_NAME_BYTES_PER_ENTRY = 200
"""On average, over all entries that `Limits` allows: the memory for names is bounded, too."""
_CHANGES_PER_ENTRY = 4
"""Each entry may be added, removed, and become unreadable or readable once in a scan."""


_stamps = count(1)


class _Tree(Struct):
    """One tree; `listing` is handed out and therefore replaced, never changed."""

    listing: Listing
    entries: dict[RemotePath, Entry] | None = None
    """The next listing's entries, from the first change until the listing is returned: copying all of them for each of
    many small scans costs more than the scans."""
    unreadable: dict[RemotePath, None] = field(default_factory=dict)
    """In the order of the answer: a probe sends them sorted, and sorting 100,000s again takes too long."""
    is_stale: bool = False
    """Whether `unreadable` differs from the listing's."""
    rejected: set[int] = field(default_factory=set)
    name_bytes: int = 0
    gone: dict[RemotePath, None] = field(default_factory=dict)
    changed: dict[RemotePath, None] = field(default_factory=dict)
    """With `gone`: what differs from the listing that was returned last; see `Delta`."""

    def take(self, part: ScanPart) -> None:
        if self.entries is None:
            self.entries = dict(self.listing.entries)
        for path in part.gone:
            old = self.entries.pop(path, None)
            self.name_bytes -= _weight(old)
            self.gone[path] = None
            self.changed.pop(path, None)
        for entry in part.changed:
            self.name_bytes += _weight(entry) - _weight(self.entries.get(entry.path))
            self.entries[entry.path] = entry
            self.changed.setdefault(entry.path)
        for path in part.readable:
            self.unreadable.pop(path, None)
        self.unreadable.update(dict.fromkeys(part.unreadable))
        self.is_stale = self.is_stale or bool(part.readable or part.unreadable)
        self.rejected -= part.rejected_gone
        self.rejected |= part.rejected

    def count(self) -> int:
        return len(self.listing.entries if self.entries is None else self.entries) + len(self.unreadable)

    def returned(self) -> Listing:
        """Return the listing, with how it differs from the one that was returned last."""
        if self.entries is not None:
            unreadable = tuple(self.unreadable) if self.is_stale else self.listing.unreadable
            self.listing = replace(self.listing, entries=self.entries, unreadable=unreadable)
            self.entries = None
            self.is_stale = False
        if self.gone or self.changed:
            delta = Delta(self.listing.stamp, tuple(self.gone), tuple(self.changed))
            self.listing = replace(self.listing, stamp=next(_stamps), delta=delta if delta.since else None)
            self.gone, self.changed = {}, {}
        return self.listing

    def empty(self) -> None:
        self.listing = replace(self.listing, entries={}, unreadable=(), stamp=0, delta=None)
        self.gone, self.changed = {}, {}
        self.entries = None
        self.unreadable.clear()
        self.is_stale = False
        self.rejected.clear()
        self.name_bytes = 0


def _weight(entry: Entry | None) -> int:
    return 0 if entry is None else sum(map(len, entry.path.parts)) + len(entry.target or "")


class RemoteIndex:
    """The trees of one watch list."""

    def __init__(self, trees: tuple[Tree, ...], limits: Limits) -> None:
        self._limits = limits
        self._trees = [_Tree(Listing(tree, TreeState.NO_ROOT)) for tree in trees]
        self._last: tuple[Listing, ...] = ()
        self._box_time_ns = 0
        self._received = 0
        """How many names the current scan has sent."""

    def take(self, part: ScanPart) -> None:
        """Collect changes of a scan; raise `BrokenAnswer` beyond a limit."""
        self._received += len(part.changed) + len(part.gone) + len(part.unreadable) + len(part.readable)
        if self._received > _CHANGES_PER_ENTRY * self._limits.entries:
            raise BrokenAnswer("a look without end")
        self._trees[part.tree].take(part)
        if sum(len(tree.rejected) for tree in self._trees) > self._limits.rejected_names:
            raise BrokenAnswer(f"more than {self._limits.rejected_names} names that no file may have")
        if sum(tree.count() for tree in self._trees) > self._limits.entries:
            raise BrokenAnswer(f"more than {self._limits.entries} entries")
        if sum(tree.name_bytes for tree in self._trees) > _NAME_BYTES_PER_ENTRY * self._limits.entries:
            raise BrokenAnswer("names that are longer than memory was set aside for")

    def complete(self, end: ScanEnd) -> None:
        """Note the end of a scan: its changes belong to the next snapshot."""
        self._received = 0
        for news in end.trees:
            tree = self._trees[news.tree]
            tree.listing = replace(
                tree.listing, state=news.state, device=news.device, filesystem=news.filesystem, drifts=news.drifts
            )
            if news.state is not TreeState.PRESENT:
                tree.empty()
        self._box_time_ns = end.box_time_ns

    def snapshot(self) -> Snapshot:
        """Return the snapshot after all scans, the last of which must be complete.

        It is marked as changed if it differs from the one returned last.
        """
        listings = tuple(tree.returned() for tree in self._trees)
        unchanged = len(listings) == len(self._last) and all(a is b for a, b in zip(listings, self._last, strict=True))
        self._last = listings
        rejected = sum(len(tree.rejected) for tree in self._trees)
        return Snapshot(listings, self._box_time_ns, changed=not unchanged or not listings, rejected=rejected)
