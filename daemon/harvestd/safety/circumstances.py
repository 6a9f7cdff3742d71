"""A host's report about itself for a verdict: activity on it, and files outside its trees. Values.

`Box.circumstances` returns it. Everything is untrusted: counted, bounded, and escaped for display.

Recognises a tree's file system after its device number has changed. Pure. The kernel assigns new device numbers at
each mount of NFS, virtiofs or btrfs. Files prove that the file system is the same: another one can't reproduce the
inode, change time, modification time and size of a file that was read before.
"""

from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum

from msgspec import field
from msgspec.structs import replace

from harvestd.convention.scan.snapshot import Listing, TreeState
from harvestd.convention.structs import Immutable
from harvestd.planning.records import FileRecord


class Checkout(Immutable):
    """A git checkout in the home directory with work that is nowhere else."""

    place: str
    """The absolute path on the host."""
    changed: int
    """Files that differ from the last commit or are untracked; 0 if only commits would be lost."""
    unpushed: int
    """Commits that are on no remote branch."""


class Outside(Immutable):
    """Recently changed files outside the watched trees."""

    files: int
    size: int
    """Bytes."""
    newest: tuple[str, ...] = ()
    """Absolute paths of some of them."""
    whole: bool = True
    """Whether the home directory, the roots and the other usual places could be searched completely within the limits
    of time and number; unreadable directories of others in the usual places do not count."""
    missed: str = ""
    """The first place that was not searched, and why; empty if everything was, or if the host gives no reason."""


class CarrierState(StrEnum):
    """Why a program counts as transferring files; the values are those of the probe's protocol."""

    MOVES = "moves"
    """It transferred bytes recently."""
    OPEN = "open"
    """It has an open file below the roots."""
    UNSENT = "unsent"
    """It provides a mount, and its cache has unsent data."""
    UNKNOWN = "unknown"
    """Its activity is not visible to harvestd's user."""


class Carrier(Immutable):
    """A process that transfers files to or from a host."""

    program: str
    pid: int
    state: CarrierState


class Circumstances(Immutable):
    """Facts beside the trees for or against terminating a host. None means unknown and is treated as unsafe."""

    machine: str = ""
    """Its machine id, which is constant for an installation; empty if it has none."""
    hostname: str = ""
    gpu_processes: int | None = None
    log_ins: int | None = None
    """Sessions of people, without harvestd's own."""
    transfers: int | None = None
    """Processes that transfer files to or from the host (scp, rsync, sftp-server, rclone …), without harvestd's own."""
    carriers: tuple[Carrier, ...] = ()
    """The first few of them."""
    devices: Mapping[str, int] = field(default_factory=dict)
    """By configured root: the device number of its file system. A root that does not exist has no entry."""
    outside: Outside | None = None
    checkouts: tuple[Checkout, ...] | None = None
    """Only those in which something would be lost."""
    unclear: str = ""
    """Why checkouts, or everything, are unknown; empty if they are known, or if the host gives no reason."""
    gpus_unclear: str = ""
    """Why the GPU processes are unknown; empty in the same cases as `unclear`."""

    def without(self, programs: Collection[str]) -> "Circumstances":
        """Return the same facts without the carriers that run one of `programs`."""
        if self.transfers is None or not programs:
            return self
        left = tuple(each for each in self.carriers if each.program not in programs)
        return replace(self, carriers=left, transfers=self.transfers - (len(self.carriers) - len(left)))


_SHOWN_CARRIERS = 3
_STATES = {
    CarrierState.MOVES: "moved bytes lately",
    CarrierState.OPEN: "has files below the roots open",
    CarrierState.UNSENT: "its cache holds unsent data",
    CarrierState.UNKNOWN: "what it does is not shown; verdict.ignore_programs passes over it",
}


def carriers_named(found: Circumstances) -> str:
    """Return the programs that transfer files as text, each with its process and reason; empty if there are none."""
    shown = [f"{each.program} (process {each.pid}: {_STATES[each.state]})" for each in found.carriers[:_SHOWN_CARRIERS]]
    return ", ".join(shown)


def renumbered(known: Mapping[str, int], listings: Iterable[Listing], files: Iterable[FileRecord]) -> dict[str, int]:
    """Return the new devices of the trees that are provably on the same file system as before.

    `known`: the recorded devices by place; `files`: the records of files fetched from this storage before this scan.
    """
    present = [each for each in listings if each.state is TreeState.PRESENT]
    moved = [each for each in present if each.device and known.get(str(each.tree), each.device) != each.device]
    records = tuple(files) if moved else ()
    return {str(each.tree): each.device for each in moved if _is_proven(each, records)}


def renumbered_roots(known: Mapping[str, int], listings: Iterable[Listing], roots: Mapping[str, int]) -> dict[str, int]:
    """Return the new devices of the roots that share a file system with a tree below, if all trees are unchanged."""
    now = {str(each.tree): each.device for each in listings if each.state is TreeState.PRESENT}
    found: dict[str, int] = {}
    for root, device in roots.items():
        below = [place for place in known if place.startswith(f"{root.rstrip('/')}/")]
        right = all(now.get(place) == known[place] for place in below)
        if known.get(root, device) != device and right and device in {now.get(place) for place in below}:
            found[root] = device
    return found


def _is_proven(listing: Listing, files: Iterable[FileRecord]) -> bool:
    """Return whether more files of a tree are exactly as they were read than have another inode, and at least one."""
    start = f"{listing.tree}/"
    versions = {each.place: each.version for each in files if each.place.startswith(start) and each.version.inode}
    if not versions:
        return False
    same = other = 0
    for path, entry in listing.entries.items():
        before = versions.get(f"{start}{path}")
        if before is not None:
            same += bool(before.ctime_ns) and before == entry.version
            other += before.inode != entry.version.inode
    return same > other
