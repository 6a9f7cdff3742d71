"""Watch directories with inotify: which ones have to be scanned again, and how urgently.

A notice is only a hint: changes are always found by a scan. Where notices may be missing (writes of another machine on
a network file system, a queue overflow, more directories than may be watched) that is detected here.
"""
# pathlib has no directory handles:
# ruff: noqa: PTH123

import os
import struct

from harvestd.remote.probe.program.folders import NO_WATCH

TYPE_CHECKING = False

MODIFY, ATTRIB, CLOSE_WRITE = 0x2, 0x4, 0x8
MOVED_FROM, MOVED_TO, CREATE, DELETE = 0x40, 0x80, 0x100, 0x200
UNMOUNT, OVERFLOW, IGNORED = 0x2000, 0x4000, 0x8000
ONLY_FOLDERS, EXCEPT_UNLINKED = 0x1000000, 0x4000000
WATCHED = MODIFY | ATTRIB | CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | ONLY_FOLDERS | EXCEPT_UNLINKED
URGENT = CLOSE_WRITE | MOVED_FROM | MOVED_TO | CREATE | DELETE | UNMOUNT
NOTICE = struct.Struct("iIII")
QUEUE_BYTES = 64 * 1024
MOST_WATCHES = 32768
SHARE_OF_QUOTA = 4
QUOTA = "/proc/sys/fs/inotify/max_user_watches"

# File systems on which all writes go through this machine's kernel, so that it can report each of them.
LOCAL = frozenset(("ext2", "ext3", "ext4", "xfs", "btrfs", "zfs", "f2fs", "tmpfs", "overlay", "bcachefs"))


class NoNotices(Exception):
    """This kernel, or this user's quota, offers no notices."""


def most_watches() -> int:
    """Return how many directories may be watched: a part of the user's quota, the rest is for the host's own work."""
    try:
        with open(QUOTA, "rb") as quota:
            return min(MOST_WATCHES, int(quota.read()) // SHARE_OF_QUOTA)
    except (OSError, ValueError):
        return 0


class Notices:
    """The kernel's notices of watched directories, each identified by tree and path."""

    def __init__(self) -> None:
        import ctypes  # noqa: PLC0415  (expensive, and not used by a single scan)

        self.libc: ctypes.CDLL = ctypes.CDLL(None, use_errno=True)
        try:
            self.handle: int = self.libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except AttributeError:
            raise NoNotices from None
        if self.handle < 0:
            raise NoNotices
        self.left = most_watches()
        self.watched: dict[int, tuple[int, str]] = {}
        self.shared: dict[int, set[tuple[int, str]]] = {}
        self.dirty: set[tuple[int, str]] = set()
        self.lost = False
        self.urgent = False

    def watch(self, handle: int, key: "tuple[int, str]") -> int:
        """Watch an open directory; return the number of its watch, or `NO_WATCH`."""
        if self.left <= 0:
            return NO_WATCH
        number: int = self.libc.inotify_add_watch(self.handle, b"/proc/self/fd/%d" % handle, WATCHED)
        if number < 0:
            return NO_WATCH
        if number not in self.watched:
            self.watched[number] = key
            self.left -= 1
        elif self.watched[number] != key:
            # Two trees may show the same directory.
            self.shared.setdefault(number, set()).add(key)
        return number

    def forget(self, number: int, key: "tuple[int, str]") -> None:
        """Stop watching a directory."""
        others = self.shared.get(number, set())
        if self.watched.get(number) != key:
            others.discard(key)
        elif others:
            self.watched[number] = others.pop()
        else:
            self.drop(number)
            self.libc.inotify_rm_watch(self.handle, number)

    def drop(self, number: int) -> None:
        """Forget a watch that has ended."""
        if self.watched.pop(number, None) is not None:
            self.left += 1
        self.shared.pop(number, None)

    def collect(self) -> bool:
        """Read the queue and record which directories are dirty; return whether there was anything."""
        try:
            data = os.read(self.handle, QUEUE_BYTES)
        except BlockingIOError:
            return False
        at = 0
        while at < len(data):
            number, mask, _, length = NOTICE.unpack_from(data, at)
            at += NOTICE.size + length
            if mask & OVERFLOW:
                self.lost = True
            if number in self.watched:
                self.dirty.add(self.watched[number])
                self.dirty.update(self.shared.get(number, ()))
            if mask & URGENT:
                self.urgent = True
            if mask & IGNORED:
                self.drop(number)
        return True
