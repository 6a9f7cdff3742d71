"""The content of a host's trees at one time, as validated values. Made by `remote/`, read by the planner."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

from harvestd.convention.paths import RemotePath
from harvestd.convention.structs import Immutable


class TreeKind(StrEnum):
    """The two kinds of remote trees of the convention."""

    TRAINING = "training"
    EVAL = "eval"

    @property
    def counts_bare_directories(self) -> bool:
        """Whether an empty directory has a meaning: it is a run that has begun, but not an eval.

        A directory with content is known from its content, and an eval tree has as many directories as files.
        """
        return self is TreeKind.TRAINING


@dataclass(frozen=True, slots=True, order=True)
class Tree:
    """One directory to watch on a host: `{root}/{name}`, e.g. /home/ubuntu/localfs and training_runs."""

    root: str
    """The absolute path from the configuration; the host resolves links in it once."""
    name: str
    """The path below the root; links in it are resolved too, but links below the tree are not."""
    kind: TreeKind
    _text: str = field(init=False, repr=False, compare=False)
    """The absolute path, computed once: it is the prefix of every file in the tree."""

    def __post_init__(self) -> None:
        """Compute the tree's path."""
        object.__setattr__(self, "_text", f"{self.root.rstrip('/')}/{self.name}")

    def __str__(self) -> str:
        """Return the absolute path on the host."""
        return self._text


class EntryType(StrEnum):
    """The type of a directory entry; the values are the letters of the probe's protocol."""

    FILE = "f"
    DIRECTORY = "d"
    LINK = "l"
    OTHER = "o"
    """A device, socket or FIFO: never opened."""
    PRUNED = "p"
    """A directory that was not walked; its version's size is the total if it was counted, else -1."""


class Version(Immutable, gc=False):
    """The version of a remote file's content, from fstat. Equal versions mean unchanged content."""

    size: int
    """Bytes."""
    mtime_ns: int
    ctime_ns: int = 0
    """0 if the transport does not provide it (SFTP)."""
    inode: int = 0
    """0 if the transport does not provide it (SFTP)."""


class Entry(Immutable, gc=False):
    """One directory entry below a tree; links are not followed."""

    path: RemotePath
    type: EntryType
    version: Version
    target: str | None = None
    """The target of a link, as written on the host."""


class TreeState(StrEnum):
    """Whether and why a tree could or could not be listed."""

    PRESENT = "present"
    NO_ROOT = "no root"
    """The root itself does not exist: an unmounted file system, or a wrong configuration."""
    NO_TREE = "no tree"
    """The root exists, the tree does not (yet): normal on a new host."""
    BROKEN_LINK = "broken link"
    """The tree is a link whose target is not a directory."""
    DENIED = "denied"
    TWIN = "twin"
    """The same directory as an earlier tree of the watch list, through a link: scanned only as that tree."""


class Delta(Immutable):
    """How the entries of a listing differ from those of an earlier one of the same tree."""

    since: int
    """The stamp of the earlier listing."""
    gone: tuple[RemotePath, ...]
    """Paths that were removed, some of which may have been added again later."""
    changed: tuple[RemotePath, ...]
    """Paths that were added or changed, in the order in which they were added."""


class Listing(Immutable):
    """Everything below one tree."""

    tree: Tree
    state: TreeState
    device: int = 0
    """st_dev of the tree, 0 if unknown; it changes if another file system is mounted there."""
    filesystem: str = ""
    """The file system type from the host's mount table, e.g. ext4, nfs4; empty if unknown."""
    drifts: bool = False
    """Whether inodes and change times differ between scans although nothing changed, as on some FUSE file systems: then
    versions contain neither, and only name, size and modification time identify a version."""
    entries: Mapping[RemotePath, Entry] = msgspec.field(default_factory=dict)
    """Never modified after construction: the identical object means identical entries.

    Directories may be missing if only their content matters.
    """
    unreadable: tuple[RemotePath, ...] = ()
    """Directories below the tree that the host's user may not list."""
    stamp: int = 0
    """Unique for these entries within this process; 0: none was given."""
    delta: Delta | None = None
    """How the entries differ from those of an earlier listing; None: unknown."""

    def delta_since(self, stamp: int) -> Delta | None:
        """Return how the entries differ from those of the listing with this stamp; None if that is unknown."""
        return self.delta if stamp and self.delta is not None and self.delta.since == stamp else None


class Snapshot(Immutable):
    """All trees of one host in one scan."""

    listings: tuple[Listing, ...]
    box_time_ns: int
    """The host's clock (Unix time) at the start of the scan; 0 if the transport lacks it. Not trusted alone."""
    changed: bool = True
    """Whether anything differs from the snapshot before it."""
    rejected: int = 0
    """The number of names from the host that `RemotePath` rejected."""
