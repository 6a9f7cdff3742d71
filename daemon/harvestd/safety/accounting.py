"""Accounts for every wanted file of a host: here, or why not. Pure. Only its record makes a file local.

Accounts for every wanted file of a host. Pure. A file counts as local only if its record says so. A file is never
counted as local because no plan contains it. The plan lists what will be fetched; this module lists what would still
be missing then: files that something local blocks, and files that nothing fetches, of which there should be none.

Finds which results of a host are not safely stored locally: one reason for each way of missing. Pure. A run that
another machine writes is ignored if it is on storage that outlives this host and stays reachable.
"""

from collections.abc import Collection, Iterator, Sequence
from functools import cached_property, partial

from harvestd.convention.scan.model import EvalDir, RunDir, ScanResult, Source, Wanted
from harvestd.convention.structs import Immutable
from harvestd.planning.identity import views_of
from harvestd.planning.index import PlanningIndex, unread_bytes
from harvestd.planning.plan import Plan, RequestState, Waiting
from harvestd.safety.inputs import Evidence, Memo, NotHere
from harvestd.safety.verdict import Reason, ReasonKind

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
    ignored = frozenset(plan.ignored)
    for directory in directories:
        if directory.place in ignored or (isinstance(directory, RunDir) and directory.config is None):
            continue
        for each in missing_of(directory, coming, storages, knowledge, memo):
            # What a rule leaves out has its own line.
            if each.reason == _TORN or (each.place not in lines and directory.place not in found):
                found[each.place] = each
    return tuple(found.values())


def missing_of(
    directory: RunDir | EvalDir, coming: "Coming", storages: frozenset[str], knowledge: PlanningIndex, memo: Memo
) -> Sequence[NotHere]:
    """Return the wanted files of a directory that are neither local nor in the plan, from the memo if it has them."""
    return memo.of("not here", directory, storages, partial(_missing, directory, coming, storages, knowledge))


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


class _Missing(Immutable):
    """Something wanted that is not local: its absolute path on the host, and bytes."""

    place: str
    size: int
    why: str = ""


def obstacles(evidence: Evidence, plan: Plan) -> Iterator[Reason]:
    """Yield the reasons: what a person must resolve, then what is to be fetched, then what may still be written."""
    finding = _Finding(evidence, plan)
    yield from finding.local_faults()
    yield from finding.in_progress()
    yield from finding.alive()


class _Finding:
    def __init__(self, evidence: Evidence, plan: Plan) -> None:
        self._evidence = evidence
        self._plan = plan
        others = [run.place for run in evidence.runs if run.elsewhere] if evidence.through else []
        self._others = tuple(f"{place}/" for place in others)

    def _is_ours(self, place: str) -> bool:
        return not f"{place}/".startswith(self._others) if self._others else True

    def local_faults(self) -> Iterator[Reason]:
        """Yield reasons for damaged local files, for blocked files and for files that can't be read on the host."""
        damaged = self._evidence.damaged
        if damaged:
            what = _counted([str(each.path) for each in damaged])
            size = sum(each.size for each in damaged)
            yield Reason(ReasonKind.MISSING_AT_HOME, f"{what} is not as it was put here", size)
        hindered = [each for each in self._not_here() if each.hindered]
        if hindered:
            what = f"{_counted([each.place for each in hindered])}: {hindered[0].reason}"
            yield Reason(ReasonKind.IN_THE_WAY, what, sum(each.size for each in hindered))
        failing = [each for each in self._outstanding if each.why]
        if failing:
            what = f"{_counted([each.place for each in failing])}: {failing[0].why}"
            yield Reason(ReasonKind.FAILING, what, sum(each.size for each in failing))

    def _not_here(self) -> list[NotHere]:
        return [each for each in self._evidence.not_here if self._is_ours(each.place)]

    @cached_property
    def _outstanding(self) -> list[_Missing]:
        failing, plan = self._evidence.failing, self._plan
        coming = [(each.place, each.size) for each in plan.groups]
        coming += [(each.place, each.size) for each in plan.follows]
        coming += [(each.place, each.source.version.size) for each in plan.checks]
        coming += [(each.record.place, 0) for each in plan.refiles]
        found = [_Missing(place, size, failing.get(place, "")) for place, size in coming if self._is_ours(place)]
        return found + [_Missing(each.place, each.size) for each in self._not_here() if not each.hindered]

    def in_progress(self) -> Iterator[Reason]:
        """Yield reasons for what is to be fetched, what was requested by hand, and what waits."""
        coming = [each for each in self._outstanding if not each.why]
        if coming:
            what = f"{_counted([each.place for each in coming])} is not here yet"
            yield Reason(ReasonKind.OUTSTANDING, what, sum(each.size for each in coming))
        requested = [each for each in self._plan.request_states if each.shown and each.outstanding]
        if requested:
            # Its bytes are already counted as outstanding.
            yield Reason(ReasonKind.ASKED_FOR, f"{_requested(requested)} was asked for by hand and is not here yet")
        waiting = [each for each in self._plan.waiting if self._is_ours(each.place)]
        if waiting:
            what = f"{_counted([each.place for each in waiting])}: {waiting[0].reason}"
            yield Reason(ReasonKind.WAITING, what, sum(each.size for each in waiting), _longest(waiting))

    def alive(self) -> Iterator[Reason]:
        """Yield a reason for the runs that may still write."""
        runs = [run for run in self._evidence.runs if not run.ended and self._is_ours(run.place)]
        if runs:
            left = [run.left for run in runs if run.left is not None]
            seconds = max(left) if len(left) == len(runs) else None
            what = f"{_counted([run.place for run in runs])} is not known to have ended"
            yield Reason(ReasonKind.RUNNING, what, seconds=seconds)


def _counted(names: Sequence[str]) -> str:
    more = len(names) - 1
    return names[0] if not more else f"{names[0]} (and {more} more)"


def _requested(found: Sequence[RequestState]) -> str:
    return _counted([f"{each.thing} of {each.run[1]}" for each in found])


def _longest(waiting: Sequence[Waiting]) -> float | None:
    seconds = [each.seconds for each in waiting if each.seconds is not None]
    return max(seconds) if len(seconds) == len(waiting) else None
