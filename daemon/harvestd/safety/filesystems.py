"""Whether a tree lies on the file system that it lay on before, although the number of its device is another one. Pure.

The kernel numbers devices anew at each mount of NFS, virtiofs or btrfs. Files prove the file system to be the same:
inode, change time, modification time and size of one that was read before can't be made again on another one.
"""

from collections.abc import Iterable, Mapping

from harvestd.convention.scan.snapshot import Listing, TreeState
from harvestd.planning.records import FileRecord


def renumbered(known: Mapping[str, int], listings: Iterable[Listing], files: Iterable[FileRecord]) -> dict[str, int]:
    """Return the new devices of those trees that are proven to be on the same file system as before.

    `known` holds the devices by place, as noted before; `files` came from this storage before this scan.
    """
    present = [each for each in listings if each.state is TreeState.PRESENT]
    moved = [each for each in present if each.device and known.get(str(each.tree), each.device) != each.device]
    records = tuple(files) if moved else ()
    return {str(each.tree): each.device for each in moved if _is_proven(each, records)}


def renumbered_roots(known: Mapping[str, int], listings: Iterable[Listing], roots: Mapping[str, int]) -> dict[str, int]:
    """Return the new devices of those roots that are on one file system with a tree below, which is the right one."""
    now = {str(each.tree): each.device for each in listings if each.state is TreeState.PRESENT}
    found: dict[str, int] = {}
    for root, device in roots.items():
        below = [place for place in known if place.startswith(f"{root.rstrip('/')}/")]
        right = all(now.get(place) == known[place] for place in below)
        if known.get(root, device) != device and right and device in {now.get(place) for place in below}:
            found[root] = device
    return found


def _is_proven(listing: Listing, files: Iterable[FileRecord]) -> bool:
    """Return whether a tree shows at least one file exactly as it was read, and not more that are others by inode."""
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
