"""Keeps which directories of one host are wholly on record, so that a scan indexes only those that changed."""

from collections.abc import Hashable, Iterable, Sequence

from harvestd.convention.scan.model import EvalDir, RunDir, ScanResult
from harvestd.convention.structs import Immutable
from harvestd.planning.index import PlanningIndex

_SPARE = 64
"""Vanished directories that are kept before they are dropped, beside as many as exist."""


class _Indexed(Immutable):
    directory: RunDir | EvalDir
    subjects: tuple[Hashable, ...]
    """What the index of the directory depends on besides it; see `PlanningIndex.changed_at`."""
    version: int


class IndexedDirectories:
    """The directories that are on record; an unchanged directory of a later scan is the same object."""

    def __init__(self, knowledge: PlanningIndex) -> None:
        self._knowledge = knowledge
        self._known: dict[int, _Indexed] = {}
        """By the object's id."""

    def has(self, directory: RunDir | EvalDir) -> bool:
        """Return whether a directory is on record, and neither it nor its subjects changed since."""
        known = self._known.get(id(directory))
        if known is None or known.directory is not directory:
            return False
        return self._knowledge.changed_at(known.subjects) <= known.version

    def add(self, directory: RunDir | EvalDir, subjects: Sequence[Hashable]) -> None:
        """Note that all of a directory is on record."""
        self._known[id(directory)] = _Indexed(directory, tuple(subjects), self._knowledge.version)

    def trim(self, seen: ScanResult) -> None:
        """Drop vanished directories if there are many."""
        if len(self._known) > 2 * (len(seen.runs) + len(seen.evals)) + _SPARE:
            shown: Iterable[RunDir | EvalDir] = (*seen.runs, *seen.evals)
            self._known = {id(each): self._known[id(each)] for each in shown if id(each) in self._known}
