"""What a host's trees hold at one moment, as validated values. Made by `remote/`, read by the planner."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from harvestd.convention.paths import RemotePath
from harvestd.convention.structs import Immutable


class TreeKind(StrEnum):
    """Which of the convention's two remote trees a directory is."""

    TRAINING = "training"
    EVAL = "eval"

    @property
    def counts_bare_directories(self) -> bool:
        """Whether a directory that holds nothing means anything: a run that began is one, an eval that began is none.

        What holds something is known by that, and there are as many directories in an eval tree as files.
        """
        return self is TreeKind.TRAINING


@dataclass(frozen=True, slots=True, order=True)
class Tree:
    """One directory to watch on a box: `{root}/{name}`, e.g. /home/ubuntu/localfs and training_runs."""

    root: str
    """The absolute path as the operator gave it; the host resolves links in it once."""
    name: str
    """Below the root; a link there is resolved as well, and none below the tree."""
    kind: TreeKind
    _text: str = field(init=False, repr=False, compare=False)
    """Made once: it begins the place of every file in the tree."""

    def __post_init__(self) -> None:
        """Make the tree's path."""
        object.__setattr__(self, "_text", f"{self.root.rstrip('/')}/{self.name}")

    def __str__(self) -> str:
        """Return the absolute path on the box."""
        return self._text


class EntryType(StrEnum):
    """What kind of thing a directory entry is; the values are the letters of the probe's protocol."""

    FILE = "f"
    DIRECTORY = "d"
    LINK = "l"
    OTHER = "o"
    """A device, socket or FIFO: never opened."""
    PRUNED = "p"
    """A directory that was not walked; its version's size is the total where it was counted, else -1."""


class Version(Immutable, gc=False):
    """What tells one content of a remote file from another, as fstat shows it. Two equal versions: unchanged."""

    size: int
    """Bytes."""
    mtime_ns: int
    ctime_ns: int = 0
    """0 where the transport can't say (SFTP)."""
    inode: int = 0
    """0 where the transport can't say (SFTP)."""


class Entry(Immutable, gc=False):
    """One directory entry below a tree, never following links."""

    path: RemotePath
    type: EntryType
    version: Version
    target: str | None = None
    """Where a link points, as written on the box."""


class TreeState(StrEnum):
    """Whether a tree could be listed."""

    PRESENT = "present"
    NO_ROOT = "no root"
    """The root itself does not exist: an unmounted file system, or a wrong configuration."""
    NO_TREE = "no tree"
    """The root is there, the tree is not (yet): normal on a fresh box."""
    BROKEN_LINK = "broken link"
    """The tree is a link that leads to no directory."""
    DENIED = "denied"
    TWIN = "twin"
    """The directory of a tree before it in the watch list, by another root's way (a link): looked at there alone."""


class Listing(Immutable):
    """Everything below one tree."""

    tree: Tree
    state: TreeState
    device: int = 0
    """st_dev of the tree, 0 if unknown: another number means another file system is mounted there."""
    filesystem: str = ""
    """The file system's kind from the box's mount table, e.g. ext4, nfs4; empty if unknown."""
    drifts: bool = False
    """Whether inodes and change times differ from scan to scan although nothing changed, as on some file systems by
    FUSE: then versions hold neither, and name, size and modification time of a file decide."""
    entries: Mapping[RemotePath, Entry] = msgspec.field(default_factory=dict)
    """Never changed once they were handed out: what holds the same object has seen the same entries.

    Directories need not be among them where only what they hold counts.
    """
    unreadable: tuple[RemotePath, ...] = ()
    """Directories below the tree that the box's user may not list."""


class Snapshot(Immutable):
    """All trees of one host in one look."""

    listings: tuple[Listing, ...]
    box_time_ns: int
    """The box's own clock (Unix time) when the look began; 0 where the transport can't say. Never trusted alone."""
    changed: bool = True
    """Whether anything differs from the snapshot before it."""
    rejected: int = 0
    """How many names the box sent that `RemotePath` refused."""
