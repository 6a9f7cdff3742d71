"""Collecting what is left out: one line for each thing a person would name, with its total."""

from harvestd.convention.layout import LeftOut, place_of
from harvestd.convention.paths import RemotePath
from harvestd.convention.selection import Exclusion
from harvestd.convention.snapshot import Entry, EntryType, Tree

_SPECIAL = {
    EntryType.LINK: "a link: never followed",
    EntryType.OTHER: "not a regular file: never opened",
}


class Leftovers:
    """Adds up excluded entries by the directory that their reason covers."""

    def __init__(self, tree: Tree, depth: int) -> None:
        """Collect below `depth` components of `tree`; exclusions count their depth from there."""
        self._tree = tree
        self._depth = depth
        self._found: dict[tuple[tuple[str, ...], str], tuple[int | None, int]] = {}

    def add(self, entry: Entry, exclusion: Exclusion) -> None:
        """Count one excluded entry."""
        self._count(entry.path.parts[: self._depth + exclusion.depth], exclusion.reason, entry.version.size)

    def add_special(self, entry: Entry) -> None:
        """Count an entry that is no regular file: a link, a device, a directory that was not walked."""
        if entry.type is EntryType.PRUNED:
            size = entry.version.size if entry.version.size >= 0 else None
            self._count(entry.path.parts, f"rule: {entry.path.name} is never wanted", size)
        else:
            self._count(entry.path.parts, _SPECIAL[entry.type], 0)

    def _count(self, parts: tuple[str, ...], reason: str, size: int | None) -> None:
        total, entries = self._found.get((parts, reason), (0, 0))
        known = None if size is None or total is None else total + size
        self._found[parts, reason] = (known, entries + 1)

    def collected(self) -> list[LeftOut]:
        """Give what was counted, in the order of its paths."""
        return [
            LeftOut(place_of(self._tree, RemotePath(parts)), size, entries, reason)
            for (parts, reason), (size, entries) in sorted(self._found.items())
        ]
