"""Tracks for how long each file has been unchanged: the last resort for detecting that something is complete.

The state is kept across the scans of one host and uses our clock. The host's clock counts only as the difference
between two of its own timestamps (its present time and a file's last change), so a host whose clock is wrong by hours
makes no difference.

Measures for how long nothing has changed on one host, by our own scans and clock; pure, with state. The host's clock
and the times of its files are not used: time without scans does not count as quiet.
"""

from collections.abc import Collection, Mapping

from msgspec import Struct, field

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.model import Group, Source
from harvestd.convention.scan.snapshot import Entry, Listing, Snapshot, Tree, Version

NETWORK_FILESYSTEMS = frozenset(
    {
        *("nfs", "nfs4", "cifs", "smb2", "smb3", "smbfs", "ceph", "lustre", "9p", "afs", "gpfs", "beegfs", "virtiofs"),
        *("wekafs", "glusterfs", "panfs", "orangefs", "pvfs2", "ocfs2", "gfs2", "coda", "ncpfs", "dvs", "davfs"),
        *("vboxsf", "vmhgfs", "prl_fs", "juicefs", "s3fs", "quobyte", "moosefs"),
    }
)
"""Types in the kernel's mount table where another machine sets the times of files, or where times may be stale."""
NETWORK_SETTLE = 60.0
"""Seconds: cached attributes on a network file system may be this old."""
COARSE_TICK = 2.0
"""Seconds: with such a coarse resolution of times, a file written just now can change without a new time."""

NO_TIME = float("-inf")
"""Settling time for a host that may end at any moment: what seems complete is taken at once."""


def is_network(filesystem: str) -> bool:
    """Return whether attributes on this type of file system may be stale."""
    return filesystem in NETWORK_FILESYSTEMS or filesystem.startswith("fuse")


class _Seen(Struct):
    """The files of one tree in the last scan."""

    began: float
    """The time of the first scan: files unchanged since then, nearly all, need no time of their own."""
    entries: Mapping[RemotePath, Entry]
    stamp: int = 0
    """Of the listing with these entries."""
    since: dict[RemotePath, float] = field(default_factory=dict)
    """The times at which later new or changed files were first seen."""

    def update(self, listing: Listing, now: float) -> None:
        entries, before = listing.entries, self.entries
        # Entries are replaced at the next scan, never modified: an identical object contains nothing new.
        if entries is before:
            return
        delta = listing.delta_since(self.stamp)
        for path in {*before, *entries} if delta is None else (*delta.gone, *delta.changed):
            entry = entries.get(path)
            if entry is None:
                self.since.pop(path, None)
            elif before.get(path) is not entry and not _is_same(before.get(path), entry):
                self.since[path] = now
        self.entries, self.stamp = entries, listing.stamp

    def age(self, path: RemotePath, version: Version, now: float) -> float:
        entry = self.entries.get(path)
        return now - self.since.get(path, self.began) if entry is not None and entry.version == version else 0.0


def _is_same(before: Entry | None, after: Entry) -> bool:
    return before is not None and before.type is after.type and before.version == after.version


class StabilityTracker:
    """Tracks when each file of one host was first seen in its present version."""

    def __init__(self) -> None:
        self._seen: dict[Tree, _Seen] = {}
        self._box_offset_ns: int | None = None
        self._network: set[Tree] = set()

    def update(self, snapshot: Snapshot, now: float) -> None:
        """Record a scan made at `now` (monotonic seconds on our clock)."""
        if snapshot.box_time_ns:
            self._box_offset_ns = snapshot.box_time_ns - int(now * 1e9)
        if not snapshot.changed:
            return
        self._network = {listing.tree for listing in snapshot.listings if is_network(listing.filesystem)}
        seen = self._seen
        self._seen = {
            each.tree: seen.get(each.tree) or _Seen(now, each.entries, each.stamp) for each in snapshot.listings
        }
        for listing in snapshot.listings:
            self._seen[listing.tree].update(listing, now)

    def age(self, source: Source, now: float) -> float:
        """Return the seconds for which this version has certainly existed unchanged.

        On a network file system the server sets the times, so the host's clock is not used.
        """
        observed = self._observed(source, now)
        return observed if source.tree in self._network else max(observed, self._age_on_the_box(source.version, now))

    def _observed(self, source: Source, now: float) -> float:
        tree = self._seen.get(source.tree)
        return tree.age(source.path, source.version, now) if tree else 0.0

    def unchanged_since(self, now: float, without: Collection[tuple[Tree, RemotePath]]) -> float:
        """Return the time of the last change seen by our scans, except at or below `without`. Monotonic seconds."""
        newest = max((seen.began for seen in self._seen.values()), default=now)
        for tree, seen in self._seen.items():
            above = {path.parts for each, path in without if each == tree}
            depths = {len(parts) for parts in above}
            for path, at in seen.since.items():
                if at > newest and not any(path.parts[:depth] in above for depth in depths):
                    newest = at
        return newest

    def lag(self, source: Source, now: float) -> float:
        """Return the seconds for which the host may show an older version than the present one; 0 on a local disk.

        Only our own scans count: a host's stale version seems unchanged for longer, the older it is.
        """
        return max(0.0, NETWORK_SETTLE - self._observed(source, now)) if source.tree in self._network else 0.0

    def _age_on_the_box(self, version: Version, now: float) -> float:
        if self._box_offset_ns is None or version.ctime_ns == 0:
            return 0.0
        box_now = int(now * 1e9) + self._box_offset_ns
        return (box_now - max(version.mtime_ns, version.ctime_ns)) / 1e9

    def quiet(self, group: Group, now: float) -> float:
        """Return the seconds for which no member of the group has changed."""
        return min(self.age(member.source, now) for member in group.members)

    def settle(self, tree: Tree, settle: float) -> float:
        """Return the settling time, in seconds, of a file in `tree` for which only age shows completeness."""
        if settle == NO_TIME:
            return settle
        return max(settle, NETWORK_SETTLE) if tree in self._network else settle


_LONGEST_GAP = 900.0
"""Seconds between the ends of two scans, beyond their interval and the duration of the later one, after which the
time between them does not count as observed. A verdict's other queries take minutes on slow machines."""


class IdleTimer:
    """Tracks changes over the scans of one connection; each connection needs a new one."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._moved = 0.0
        self._scanned = 0.0

    def record_scan(self, snapshot: Snapshot, now: float, interval: float, duration: float = 0.0) -> None:
        """Record a scan of `duration` seconds that ended at `now`; `interval`: the intended time between scans."""
        self._go_on(now, 2 * interval + duration + _LONGEST_GAP)
        if snapshot.changed:
            self._moved = now

    def unchanged(self, at: float, interval: float, duration: float) -> None:
        """Record a scan that began at `at` at the earliest and found no change, as `record_scan` does.

        The time after `at` is not observed yet. A scan older than the last recorded one shows nothing new.
        """
        if at > self._scanned:
            self._go_on(at, 2 * interval + duration + _LONGEST_GAP)

    def _go_on(self, now: float, longest: float) -> None:
        """Extend the series of scans to `now`; begin another one after a gap of more than `longest` seconds."""
        if self._began is None or now - self._scanned > longest:
            self._began = self._moved = now
        self._scanned = now

    @property
    def since(self) -> float:
        """The time of the last observed change: monotonic seconds. It stays the same until the next change."""
        return self._moved

    @property
    def began(self) -> float:
        """The start of the uninterrupted series of scans: monotonic seconds."""
        return self._scanned if self._began is None else self._began

    @property
    def quiet(self) -> float:
        """Seconds from the last observed change to the last scan."""
        return self._scanned - self._moved

    @property
    def watched(self) -> float:
        """Seconds covered by the uninterrupted series of scans."""
        return 0.0 if self._began is None else self._scanned - self._began
