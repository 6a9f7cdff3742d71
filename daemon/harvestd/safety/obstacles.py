"""Finds which results of a host are not safely stored locally: one reason for each way of missing. Pure.

A run that another machine writes is ignored if it is on storage that outlives this host and stays reachable.
"""

from collections.abc import Iterator, Sequence

from harvestd.convention.structs import Immutable
from harvestd.planning.plan import Asked, Plan, Waiting
from harvestd.safety.inputs import Evidence, NotHere
from harvestd.safety.verdict import Reason, ReasonKind


class _Missing(Immutable):
    """Something wanted that is not local: its absolute path on the host, and bytes."""

    place: str
    size: int
    why: str = ""


def obstacles(evidence: Evidence, plan: Plan) -> Iterator[Reason]:
    """Yield the reasons: what a person must resolve, then what is to be fetched, then what may still be written."""
    finding = _Finding(evidence, plan)
    yield from finding.at_home()
    yield from finding.on_the_way()
    yield from finding.alive()


class _Finding:
    def __init__(self, evidence: Evidence, plan: Plan) -> None:
        self._evidence = evidence
        self._plan = plan
        others = [run.place for run in evidence.runs if run.elsewhere] if evidence.through else []
        self._others = tuple(f"{place}/" for place in others)

    def _is_ours(self, place: str) -> bool:
        return not f"{place}/".startswith(self._others) if self._others else True

    def at_home(self) -> Iterator[Reason]:
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
        failing = [each for each in self._outstanding() if each.why]
        if failing:
            what = f"{_counted([each.place for each in failing])}: {failing[0].why}"
            yield Reason(ReasonKind.FAILING, what, sum(each.size for each in failing))

    def _not_here(self) -> list[NotHere]:
        return [each for each in self._evidence.not_here if self._is_ours(each.place)]

    def _outstanding(self) -> list[_Missing]:
        failing, plan = self._evidence.failing, self._plan
        coming = [(each.place, each.size) for each in plan.groups]
        coming += [(each.place, each.size) for each in plan.follows]
        coming += [(each.place, each.source.version.size) for each in plan.checks]
        coming += [(each.record.place, 0) for each in plan.refiles]
        found = [_Missing(place, size, failing.get(place, "")) for place, size in coming if self._is_ours(place)]
        return found + [_Missing(each.place, each.size) for each in self._not_here() if not each.hindered]

    def on_the_way(self) -> Iterator[Reason]:
        """Yield reasons for what is to be fetched, what was requested by hand, and what waits."""
        coming = [each for each in self._outstanding() if not each.why]
        if coming:
            what = f"{_counted([each.place for each in coming])} is not here yet"
            yield Reason(ReasonKind.OUTSTANDING, what, sum(each.size for each in coming))
        asked = [each for each in self._plan.asked if each.shown and each.outstanding]
        if asked:
            # Its bytes are already counted as outstanding.
            yield Reason(ReasonKind.ASKED_FOR, f"{_asked(asked)} was asked for by hand and is not here yet")
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


def _asked(found: Sequence[Asked]) -> str:
    return _counted([f"{each.thing} of {each.run[1]}" for each in found])


def _longest(waiting: Sequence[Waiting]) -> float | None:
    seconds = [each.seconds for each in waiting if each.seconds is not None]
    return max(seconds) if len(seconds) == len(waiting) else None
