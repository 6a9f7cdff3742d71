"""The state of the trees as it was last sent: directory by directory, each entry in its last version."""
# pathlib has no directory handles:
# ruff: noqa: PTH208

import os
import stat
import struct
import time

from harvestd.remote.probe.program.places import FOLDER_FLAGS, SECOND, to_text, version_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

DEEPEST = 64
PRUNED_COUNT = 10000
PRUNED_SECONDS = 10.0  # in one step, during which nothing is sent
# FUSE file systems whose inodes belong to files, and are not assigned anew at each look-up.
STEADY_FUSE = frozenset(
    ("fuse.juicefs", "fuse.glusterfs", "fuse.ceph", "fuse.ceph-fuse", "fuse.mfs", "fuse.lxcfs", "fuse.zfs", "fuseblk")
)
FRESH_TIMES = 2 * SECOND
WARM_SECONDS = 3600
NO_STAMP = 0
NO_WATCH = -1
STAMP = struct.Struct("qqQ")
ENTRY = struct.Struct("cqqqQ")


SHARED = {}  # type: dict[str, str]
MOST_SHARED = 20000


def shared(name: str) -> str:
    """Return one object for equal names; interning would keep each of them for good on Python 3.12."""
    if len(SHARED) >= MOST_SHARED:
        SHARED.clear()
    return SHARED.setdefault(name, name)


class Folder:
    """One directory as it was last sent; there may be tens of thousands, so that each is kept small."""

    __slots__ = ("content", "seen", "stamp", "watch")

    def __init__(self) -> None:
        self.content: tuple[object, ...] = ()
        self.stamp = NO_STAMP
        self.seen = 0.0
        self.watch = NO_WATCH

    def entries(self) -> "dict[str, bytes]":
        """Return each entry by its name, as it was sent."""
        return dict(zip(self.content[::2], self.content[1::2]))  # type: ignore[arg-type]  # noqa: B905  (Python 3.6)

    def keep(self, entries: "dict[str, bytes]") -> None:
        """Store the entries; names that occur in many directories are stored once."""
        self.content = tuple(part for name, entry in entries.items() for part in (shared(name), entry))

    def count(self) -> int:
        """Return the number of entries."""
        return len(self.content) // 2

    def folders(self) -> "list[str]":
        """Return the names of the directories in it."""
        content = self.content
        return [content[i] for i in range(0, len(content), 2) if content[i + 1][:1] == b"d"]  # type: ignore[index, misc]

    def is_warm(self, now: float) -> bool:
        """Return whether anything in it changed recently."""
        return now - self.seen < WARM_SECONDS


class WatchedTree:
    """One tree as it was last sent; with `bare`, directories are sent as entries too, not only as parents of files."""

    def __init__(self, index: int, root: str, name: str, bare: bool) -> None:  # noqa: FBT001  (a field of the request)
        self.index = index
        self.root = root
        self.name = name
        self.bare = bare
        self.linked = False
        self.state: tuple[object, ...] = ()
        self.identity: tuple[int, int] = (0, 0)
        self.root_watch = NO_WATCH
        self.filesystem = ""
        self.drifts = False
        self.drifted = False
        self.clear()

    def clear(self) -> None:
        """Forget the content."""
        self.folders: dict[str, Folder] = {}
        self.shut: set[str] = set()
        self.suspects: set[str] = set()
        self.entries = 0

    def set_filesystem(self, filesystem: str) -> None:
        """Set the tree's present file system."""
        self.filesystem = filesystem
        self.drifts = filesystem.startswith("fuse") and filesystem not in STEADY_FUSE
        self.drifted = False
        self.suspects.clear()

    def suspect(self, path: str) -> None:
        """Note that all files of a directory have new inodes, and the same sizes and times; twice is no coincidence."""
        if path in self.suspects:
            self.drifted = True
        self.suspects.add(path)

    def sends(self, entry: "bytes | None") -> bool:
        """Return whether an entry is sent, if there is one."""
        return entry is not None and (self.bare or entry[:1] != b"d")


def stamp_of(s: os.stat_result, now_ns: int) -> int:
    """Return a value that stays the same while no entry is added or removed; NO_STAMP where it is too new.

    Changes in a directory within the clock tick in which it was listed leave its times as they were.
    """
    if now_ns - max(s.st_mtime_ns, s.st_ctime_ns) < FRESH_TIMES:
        return NO_STAMP
    return hash((s.st_mtime_ns, s.st_ctime_ns, s.st_ino))


def newest(entries: "dict[str, bytes]") -> int:
    """Return the newest change among some entries, in nanoseconds of the host's clock."""
    return max((max(as_row(entry)[2:4]) for entry in entries.values()), default=0)


def seconds_since(changed_ns: int) -> float:
    """Return the seconds since `changed_ns`."""
    return max(0.0, time.time() - changed_ns / SECOND)


def as_row(entry: bytes) -> "list[Any]":
    """Return an entry in the form of the protocol: kind, size, mtime, ctime, inode, and a link's target."""
    kind, *version = ENTRY.unpack_from(entry)
    fields = [kind.decode("ascii"), *version]
    return fields if kind != b"l" else [*fields, to_text(entry[ENTRY.size :])]


def entry_of(
    handle: int,
    name: str,
    prune: "frozenset[str]",
    known: "bytes | None",
    drifts: bool,  # noqa: FBT001  (of the tree)
) -> bytes:
    """Return the packed form of one entry of a directory. Raise OSError."""
    # Not os.scandir: its entries' stat holds the interpreter's lock, which blocks every other thread.
    s = os.stat(name, dir_fd=handle, follow_symlinks=False)
    if stat.S_ISREG(s.st_mode):
        return ENTRY.pack(b"f", *version_of(s, drifts))
    if drifts:
        return drifting_entry_of(handle, name, prune, known, s)
    if stat.S_ISLNK(s.st_mode):
        target = os.fsencode(os.readlink(name, dir_fd=handle))
        return ENTRY.pack(b"l", s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino) + target
    if not stat.S_ISDIR(s.st_mode):
        return ENTRY.pack(b"o", 0, s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
    if name not in prune:
        # Without its times: they change with its entries, which are reported themselves.
        return ENTRY.pack(b"d", 0, 0, 0, s.st_ino)
    times = STAMP.pack(s.st_mtime_ns, s.st_ctime_ns, s.st_ino)
    # Counted again only when an entry was added or removed at its top: its size may be outdated, but one that holds
    # bytes is never reported as empty.
    if known is not None and known[:1] == b"p" and known[ENTRY.size - STAMP.size :] == times and ENTRY.unpack(known)[1]:
        return known
    return ENTRY.pack(b"p", total_of(handle, name), s.st_mtime_ns, s.st_ctime_ns, s.st_ino)


def drifting_entry_of(
    handle: int, name: str, prune: "frozenset[str]", known: "bytes | None", s: os.stat_result
) -> bytes:
    """As `entry_of`, for an entry that is no file, without inodes and times: they change by themselves."""
    if stat.S_ISLNK(s.st_mode):
        return ENTRY.pack(b"l", s.st_size, s.st_mtime_ns, 0, 0) + os.fsencode(os.readlink(name, dir_fd=handle))
    if not stat.S_ISDIR(s.st_mode):
        return ENTRY.pack(b"o", 0, s.st_mtime_ns, 0, 0)
    if name not in prune:
        return ENTRY.pack(b"d", 0, 0, 0, 0)
    counted = known is not None and known[:1] == b"p" and ENTRY.unpack(known)[1]
    return ENTRY.pack(b"p", counted or total_of(handle, name), 0, 0, 0)


def is_same_but_inode(before: "bytes | None", after: bytes) -> bool:
    """Return whether a file has an unchanged size and time, and another inode."""
    if before is None or before[:1] != b"f" or after[:1] != b"f":
        return False
    old, new = as_row(before), as_row(after)
    return old[1:3] == new[1:3] and old[4] != new[4]


class TooMuch(Exception):
    """A directory holds more than is added up, or that takes too long."""


class Total:
    """Adds up the bytes of all files below directories, within bounds."""

    def __init__(self, seconds: float, most: int) -> None:
        self.until = time.monotonic() + seconds
        self.left = most
        self.bytes = 0

    def add(self, handle: int, name: str, depth: int = 0) -> None:
        """Add the files below a directory. Raise `TooMuch`, OSError."""
        here = os.open(name, FOLDER_FLAGS, dir_fd=handle)
        try:
            for below in os.listdir(here):
                self.left -= 1
                if self.left < 0 or depth > DEEPEST or time.monotonic() > self.until:
                    raise TooMuch
                s = os.stat(below, dir_fd=here, follow_symlinks=False)
                if stat.S_ISREG(s.st_mode):
                    self.bytes += s.st_size
                elif stat.S_ISDIR(s.st_mode):
                    self.add(here, below, depth + 1)
        finally:
            os.close(here)


def total_of(handle: int, name: str) -> int:
    """Return the bytes of all files below a directory that is not listed, -1 where that would take long."""
    total = Total(PRUNED_SECONDS, PRUNED_COUNT)
    try:
        total.add(handle, name)
    except (OSError, TooMuch):
        return -1
    return total.bytes


def joined(path: str, name: str) -> str:
    """Return the path of `name` in the directory `path`."""
    return path + "/" + name if path else name
