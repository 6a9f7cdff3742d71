"""Accounts for every wanted file of a host. Pure. A file counts as local only if its record says so.

A file is never counted as local because no plan contains it. The plan lists what will be fetched; this module lists
what would still be missing then: files that something local blocks, and files that nothing fetches, of which there
should be none.
"""

from collections.abc import Collection, Iterator
from functools import partial

from harvestd.convention.scan.model import EvalDir, RunDir, ScanResult, Source, Wanted
from harvestd.planning.identity.duplicates import views_of
from harvestd.planning.index import PlanningIndex
from harvestd.planning.plan import Plan
from harvestd.planning.tails import unread_bytes
from harvestd.safety.inputs import NotHere
from harvestd.safety.memo import Memo

_TORN = "its last line is not whole"


def storages_of(survey: ScanResult, storage: str, knowledge: PlanningIndex) -> frozenset[str]:
    """Return the storages from which a host's files may have come: its own, and those with a view of the same runs."""
    found = (knowledge.run_at(storage, run.place) for run in survey.runs)
    records = [record for record in found if record is not None and record.experiment]
    return frozenset({storage, *(view.storage for record in records for view in views_of(record, knowledge))})


def is_here(source: Source, storages: Collection[str], knowledge: PlanningIndex) -> bool:
    """Return whether a complete local copy of this version of a file exists, through any of these storages."""
    copies = (copy for storage in storages for copy in knowledge.copies(storage, source.place))
    if any(copy.version == source.version for copy in copies):
        return True
    return any(knowledge.same_here(storage, source.place, source.version) is not None for storage in storages)


def not_here(survey: ScanResult, plan: Plan, storage: str, knowledge: PlanningIndex, memo: Memo) -> tuple[NotHere, ...]:
    """Return the wanted files that are neither local nor in the plan, except those that a rule or a person leaves out.

    Checkpoints are excluded: a missing one is fetched by the plan, or is reported as a loss.
    """
    storages = storages_of(survey, storage, knowledge)
    coming, lines = Coming(plan), {each.place: each for entries in plan.left_out.values() for each in entries}
    found = {
        each.place: NotHere(each.place, each.size or 0, each.reason)
        for entries in plan.left_out.values()
        for each in entries
        if each.hindered
    }
    directories: list[RunDir | EvalDir] = [*survey.runs, *survey.evals]
    for directory in directories:
        if directory.place in plan.ignored or (isinstance(directory, RunDir) and directory.config is None):
            continue
        missing = memo.of("not here", directory, storages, partial(_missing, directory, coming, storages, knowledge))
        for each in missing:
            # What a rule leaves out has its own line.
            if each.reason == _TORN or (each.place not in lines and directory.place not in found):
                found[each.place] = each
    return tuple(found.values())


def _missing(
    directory: RunDir | EvalDir, coming: "Coming", storages: frozenset[str], knowledge: PlanningIndex
) -> list[NotHere]:
    """Return the wanted files of a directory that are neither local nor in the plan."""
    found: list[NotHere] = []
    for wanted in _wanted(directory):
        source = wanted.source
        tail = unread_bytes(source, storages, knowledge)
        if coming.has(source.place) or (is_here(source, storages, knowledge) and not tail):
            continue
        size, reason = (tail, _TORN) if tail else (source.version.size, "nothing fetches it")
        found.append(NotHere(source.place, size, reason, hindered=False))
    return found


class Coming:
    """The absolute paths that a plan fetches or waits for."""

    def __init__(self, plan: Plan) -> None:
        files = {file.source.place for group in plan.groups for file in group.files}
        growing, checked = (each.place for each in plan.follows), (each.place for each in plan.checks)
        self._files = files.union(growing, checked, (refile.record.place for refile in plan.refiles))
        self._waiting = frozenset(wait.place for wait in plan.waiting)

    def has_itself(self, place: str) -> bool:
        """Return whether a file is fetched, or waits by itself: a directory that waits need not hold it for long."""
        return place in self._files or place in self._waiting

    def has(self, place: str) -> bool:
        """Return whether a path is fetched, or waits by itself or as part of a directory."""
        return place in self._files or any(above in self._waiting for above in _ways(place))


def _ways(place: str) -> Iterator[str]:
    """Yield a path and the directories above it."""
    while place:
        yield place
        place = place.rpartition("/")[0]


def _wanted(directory: RunDir | EvalDir) -> Iterator[Wanted]:
    for group in directory.groups:
        yield from group.members
    if isinstance(directory, RunDir):
        yield from directory.growing
