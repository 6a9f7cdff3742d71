"""Collects skipped entries into `LeftOut` lines with totals: one for each thing that a person would name.

The number of lines is bounded by the number of directories, whatever a host shows: many entries of one directory are
counted together.
"""

from collections import Counter
from collections.abc import Sequence

from harvestd.convention.kinds import LossKind
from harvestd.convention.paths import RemotePath
from harvestd.convention.rules import Exclusion, Exclusions
from harvestd.convention.scan.links import leads_to, places_not_walked
from harvestd.convention.scan.model import LeftOut, SymbolicLink
from harvestd.convention.scan.snapshot import Entry, EntryType, Tree

MANY = 64
"""More lines than this with the same reason in one directory become one line."""
UNLISTED = "its directory may not be listed on the box"
BROKEN_LINK = "a link that leads to no directory"
UNKNOWN = "not part of the convention"
NO_METRICS = "no metrics.csv beside it"
NO_RUN = "not below a run_* directory"
NO_EVAL = "not below a directory that names a run or a model"
LINK = "a link: never followed"
SPECIAL = "not a regular file: never opened"

_Parts = tuple[str, ...]
_Key = tuple[_Parts, str, LossKind | None]


class Leftovers:
    """Sums excluded entries by the directory that their reason covers."""

    def __init__(self, tree: Tree, depth: int) -> None:
        """Collect entries below a directory `depth` components deep in `tree`; exclusions count their depth from it."""
        self._tree = tree
        self._depth = depth
        self._found: dict[_Key, tuple[int | None, int]] = {}
        self._open: list[tuple[Entry, Exclusion]] = []
        self._understood: set[_Parts] = set()
        self._links: list[SymbolicLink] = []

    def understood(self, path: RemotePath) -> None:
        """Record that `path` is part of the convention: no directory above it is left out as a whole."""
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
            self._open.append((entry, exclusion))
            return
        parts = entry.path.parts[: self._depth + exclusion.depth]
        self._understand(parts)
        self._count(parts, exclusion.reason, entry.version.size, loss=exclusion.loss)

    def add_special(self, entries: Sequence[Entry], exclusions: Exclusions) -> None:
        """Count entries that are not regular files: links, devices, directories that were not walked.

        `entries` must be all of them below the directory, since the target of a link depends on the others.
        """
        not_walked = places_not_walked(entries)
        for entry in entries:
            rest = entry.path.parts[self._depth :]
            if entry.type is EntryType.PRUNED:
                size = entry.version.size if entry.version.size >= 0 else None
                found = exclusions.of_directory(rest) or Exclusion(UNKNOWN, loss=LossKind.OUTSIDE_FILES)
                self._count(entry.path.parts, found.reason, size, loss=found.loss)
                continue
            excluded = exclusions.of_file(rest)
            if excluded is not None and excluded.loss is None:
                self._count(entry.path.parts, excluded.reason, 0)
            elif entry.type is not EntryType.LINK:
                self._count(entry.path.parts, SPECIAL, 0)
            elif leads_to(entry.path, self._tree, not_walked, self._depth) is not None:
                self._count(entry.path.parts, LINK, 0)
            else:
                self._count(entry.path.parts, LINK, None)
                self._links.append(SymbolicLink(self._tree, entry.path, entry.target or ""))

    def add_unlisted(self, path: RemotePath, exclusions: Exclusions) -> None:
        """Count a directory that could not be listed: its content is unknown."""
        excluded = exclusions.of_directory(path.parts[self._depth :])
        self._count(path.parts, excluded.reason if excluded and excluded.loss is None else UNLISTED, None)

    @property
    def links(self) -> tuple[SymbolicLink, ...]:
        """The links that lead, or may lead, out of the directory."""
        return tuple(self._links)

    def _count(
        self, parts: _Parts, reason: str, size: int | None, entries: int = 1, loss: LossKind | None = None
    ) -> None:
        total, before = self._found.get((parts, reason, loss), (0, 0))
        known = None if size is None or total is None else total + size
        self._found[parts, reason, loss] = (known, before + entries)

    def _topmost(self, parts: _Parts) -> _Parts:
        depths = range(self._depth + 1, len(parts))
        return parts[: next((depth for depth in depths if parts[:depth] not in self._understood), len(parts))]

    def collected(self) -> list[LeftOut]:
        """Return the lines in the order of their paths. Call it once, at the end."""
        for entry, exclusion in self._open:
            parts = self._topmost(entry.path.parts)
            self._count(parts, exclusion.reason, entry.version.size, loss=exclusion.loss)
        siblings = Counter((parts[:-1], reason) for parts, reason, _ in self._found)
        single, self._found = self._found, {}
        for (parts, reason, loss), (size, entries) in single.items():
            if siblings[parts[:-1], reason] > MANY:
                self._count(parts[:-1], f"{reason} (many in this directory, counted together)", size, entries, loss)
            else:
                self._count(parts, reason, size, entries, loss)
        return [
            LeftOut("/".join((str(self._tree), *parts)), size, entries, reason, loss=loss)
            for (parts, reason, loss), (size, entries) in sorted(self._found.items(), key=_line_order)
        ]


def _line_order(line: tuple[_Key, object]) -> tuple[_Parts, str]:
    (parts, reason, _), _ = line
    return parts, reason
