"""Open directories and files below a tree by handles, component by component, never through a link.

The path of a tree itself is the operator's: links on it are followed.
"""
# pathlib has no directory handles:
# ruff: noqa: PTH114, PTH118, PTH123

import errno
import os

SECOND = 1000000000
FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC


class Refused(Exception):
    """The request can't be answered; `kind` identifies the reason for the other side."""

    def __init__(self, kind: str, why: str) -> None:
        super().__init__(why)
        self.kind = kind
        self.why = why


def to_text(raw: bytes) -> str:
    """Return a name in the form of the protocol."""
    return raw.decode("utf-8", "surrogateescape")


def to_raw(text: str) -> bytes:
    """Return the raw name of a text that `to_text` made."""
    return text.encode("utf-8", "surrogateescape")


def version_of(s: os.stat_result, drifts: bool) -> "list[int]":  # noqa: FBT001  (a field of the request)
    """Return the fields that identify a content; without unstable ones where the file system drifts."""
    return [s.st_size, s.st_mtime_ns, 0, 0] if drifts else [s.st_size, s.st_mtime_ns, s.st_ctime_ns, s.st_ino]


def root_handle(root: str) -> int:
    """Return a handle on a root, whose own links are followed; raise `Refused` where it does not exist."""
    try:
        return os.open(os.path.realpath(to_raw(root)), FOLDER_FLAGS)
    except (FileNotFoundError, NotADirectoryError):
        raise Refused("no root", "the root is not there") from None


def tree_place(root: str, name: str) -> bytes:
    """Return the path of the tree root/name, all links on the way followed."""
    return os.path.realpath(os.path.join(os.path.realpath(to_raw(root)), to_raw(name)))


def is_linked(root: str, name: str) -> bool:
    """Return whether a link is on the way from a root to the tree root/name."""
    place = os.path.realpath(to_raw(root))
    for part in to_raw(name).split(b"/"):
        place = os.path.join(place, part)
        if os.path.islink(place):
            return True
    return False


def tree_handle(root: str, name: str) -> int:
    """Return a handle on the tree root/name; raise `Refused` where its root is missing or a link is broken."""
    os.close(root_handle(root))
    try:
        return os.open(tree_place(root, name), FOLDER_FLAGS)
    except OSError as e:
        if e.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP) and is_linked(root, name):
            raise Refused("broken link", "the tree is a link that leads to no directory") from None
        raise


def descend(handle: int, parts: "list[str]") -> int:
    """Return a handle on the directory `parts` below `handle`, which is closed."""
    for part in parts:
        try:
            below = os.open(to_raw(part), FOLDER_FLAGS, dir_fd=handle)
        finally:
            os.close(handle)
        handle = below
    return handle


class Places:
    """Handles of the directories that one request needs, closed together."""

    def __init__(self) -> None:
        self.open: dict[tuple[str, str], int] = {}
        self.last: tuple[object, ...] = ()
        self.last_handle = -1

    def close(self) -> None:
        """Close every handle."""
        for handle in self.open.values():
            os.close(handle)
        self.open.clear()
        self.forget()

    def forget(self) -> None:
        """Close the handle of the directory used last."""
        if self.last_handle >= 0:
            os.close(self.last_handle)
        self.last_handle = -1

    def tree(self, root: str, name: str) -> int:
        """Return a handle on root/name."""
        key = (root, name)
        if key not in self.open:
            self.open[key] = tree_handle(root, name)
        return self.open[key]

    def folder(self, root: str, name: str, path: str) -> int:
        """Return a handle on a directory below a tree, valid until the next call; consecutive files share it."""
        key = (root, name, path)
        if self.last_handle < 0 or key != self.last:
            self.forget()
            self.last_handle = descend(os.dup(self.tree(root, name)), path.split("/") if path else [])
            self.last = key
        return self.last_handle


def filesystem(path: bytes, device: int) -> str:
    """Return the type of the file system of `path`, from the mount table; empty where it is unknown."""
    wanted = b"%d:%d" % (os.major(device), os.minor(device))
    best = (-1, "")
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            for line in table:
                fields, _, rest = line.partition(b" - ")
                columns = fields.split()
                place = columns[4].replace(b"\\040", b" ")
                below = path == place or path.startswith(place.rstrip(b"/") + b"/")
                # Some file systems (btrfs) have another device in stat than in the table: then the path decides.
                rank = len(place) + (1 << 20 if columns[2] == wanted else 0)
                if below and rank > best[0]:
                    best = (rank, to_text(rest.split()[0]))
    except (OSError, IndexError):
        return ""
    return best[1]
