"""Recognises a tree's file system after its device number has changed. Pure.

The kernel assigns new device numbers at each mount of NFS, virtiofs or btrfs. Files prove that the file system is the
same: another one can't reproduce the inode, change time, modification time and size of a file that was read before.
"""

from collections.abc import Iterable, Mapping

from harvestd.convention.scan.snapshot import Listing, TreeState
from harvestd.planning.records import FileRecord


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
