"""Collecting what is left out: one line for each thing a person would name, with its total.

However many entries a box makes up, there are no more lines than directories and some: what is many in one directory
is counted together there.
"""

from collections import Counter

from harvestd.convention.layout import LeftOut
from harvestd.convention.paths import RemotePath
from harvestd.convention.selection import Exclusion
from harvestd.convention.snapshot import Entry, EntryType, Tree

MANY = 64
"""More entries than this with the same reason in one directory are one line."""
UNLISTED = "its directory may not be listed on the box"
UNKNOWN = "not part of the convention"
NO_METRICS = "no metrics.csv beside it"
NO_RUN = "not below a run_* directory"
NO_EVAL = "not below a directory that names a run or a model"
_UNDECIDED = (UNKNOWN, NO_METRICS, NO_RUN, NO_EVAL)

_SPECIAL = {
    EntryType.LINK: "a link: never followed",
    EntryType.OTHER: "not a regular file: never opened",
}

_Parts = tuple[str, ...]


def is_undecided(line: LeftOut) -> bool:
    """Tell whether no rule leaves this out and no person did: the convention just does not know it."""
    return line.reason.startswith(_UNDECIDED)


class Leftovers:
    """Adds up excluded entries by the directory that their reason covers."""

    def __init__(self, tree: Tree, depth: int) -> None:
        """Collect below `depth` components of `tree`; exclusions count their depth from there."""
        self._tree = tree
        self._depth = depth
        self._found: dict[tuple[_Parts, str], tuple[int | None, int]] = {}
        self._open: list[tuple[Entry, str]] = []
        self._understood: set[_Parts] = set()

    def understood(self, path: RemotePath) -> None:
        """Note that the convention knows what stands at `path`: no directory above it is left out as a whole."""
        if path.parts[:-1] not in self._understood:
            self._understand(path.parts)

    def _understand(self, parts: _Parts) -> None:
        above = parts[:-1]
        while above and above not in self._understood:
            self._understood.add(above)
            above = above[:-1]

    def add(self, entry: Entry, exclusion: Exclusion) -> None:
        """Count one excluded entry."""
        if exclusion.depth is None:
            self._open.append((entry, exclusion.reason))
            return
        parts = entry.path.parts[: self._depth + exclusion.depth]
        self._understand(parts)
        self._count(parts, exclusion.reason, entry.version.size)

    def add_special(self, entry: Entry) -> None:
        """Count an entry that is no regular file: a link, a device, a directory that was not walked."""
        if entry.type is EntryType.PRUNED:
            size = entry.version.size if entry.version.size >= 0 else None
            self._count(entry.path.parts, f"rule: {entry.path.name} is never wanted", size)
        else:
            self._count(entry.path.parts, _SPECIAL[entry.type], 0)

    def add_unlisted(self, path: RemotePath) -> None:
        """Count a directory that could not be listed; what it holds, nobody knows."""
        self._count(path.parts, UNLISTED, None)

    def _count(self, parts: _Parts, reason: str, size: int | None, entries: int = 1) -> None:
        total, before = self._found.get((parts, reason), (0, 0))
        known = None if size is None or total is None else total + size
        self._found[parts, reason] = (known, before + entries)

    def _topmost(self, parts: _Parts) -> _Parts:
        depths = range(self._depth + 1, len(parts))
        return parts[: next((depth for depth in depths if parts[:depth] not in self._understood), len(parts))]

    def collected(self) -> list[LeftOut]:
        """Give what was counted, in the order of its paths. To be called once, at the end."""
        for entry, reason in self._open:
            self._count(self._topmost(entry.path.parts), reason, entry.version.size)
        siblings = Counter((parts[:-1], reason) for parts, reason in self._found)
        single, self._found = self._found, {}
        for (parts, reason), (size, entries) in single.items():
            if siblings[parts[:-1], reason] > MANY:
                self._count(parts[:-1], f"{reason} (many in this directory, counted together)", size, entries)
            else:
                self._count(parts, reason, size, entries)
        return [
            LeftOut("/".join((str(self._tree), *parts)), size, entries, reason)
            for (parts, reason), (size, entries) in sorted(self._found.items())
        ]
