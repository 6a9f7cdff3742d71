"""Plans one host in proportion to what changed; pure: a plan depends on the arguments alone.

The unit is the run or eval directory. The part of a directory in which nothing is to be done is kept until the
directory, one of the records that it depends on, or a rule changes, or time makes something due. Any other part is
planned at each scan.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from itertools import chain

from harvestd.convention.scan.model import EvalDir, RunDir, ScanResult
from harvestd.convention.structs import Immutable, Steps, finished
from harvestd.planning.destinations import Placing, belonging, possible
from harvestd.planning.host_plan.draft import Draft, QuietPart
from harvestd.planning.host_plan.eval_planner import EvalPlanner
from harvestd.planning.host_plan.run_planner import RunPlanner
from harvestd.planning.host_plan.situation import Situation
from harvestd.planning.index import ANY_REQUEST
from harvestd.planning.plan import Plan
from harvestd.planning.records import Missing
from harvestd.planning.run_status import Liveness


class _Kept(Immutable):
    """The part of a directory, and what it was made from."""

    directory: RunDir | EvalDir
    part: QuietPart
    subjects: tuple[Hashable, ...]
    """See `PlanningIndex.changed_at`."""
    version: int
    """The version of the index."""
    liveness: Liveness | None
    """None: it does not depend on it."""

    def holds(self, directory: RunDir | EvalDir, now: Situation) -> bool:
        """Return whether planning the directory would give the same part."""
        return (
            self.directory is directory
            and now.now < self.part.due
            and now.knowledge.changed_at(self.subjects) <= self.version
            and (self.liveness is None or self.liveness == now.liveness)
        )


class HostPlanner:
    """Makes the plans of one host, one after the other."""

    def __init__(self) -> None:
        self._runs: dict[int, _Kept] = {}
        self._evals: dict[int, _Kept] = {}
        """By the object's id: unchanged directories of two scans are the same object, which is kept alive here."""
        self._rules: tuple[object, ...] = ()
        self._placed_by: tuple[object, ...] = ()
        self._last: tuple[ScanResult, int, Plan] | None = None
        """The last survey, the version of the index, and their plan; None if any part has to be planned again."""
        self._due = math.inf
        """When time alone may change the last plan."""
        self._liveness: Liveness | None = None
        """What the last plan depends on; None: it does not."""
        self._subjects: frozenset[Hashable] = frozenset()
        """All subjects (see `PlanningIndex.changed_at`) on which the last plan depends."""

    def plan(self, survey: ScanResult, situation: Situation) -> Plan:
        """Return the plan of the host; raise `NotLoaded` with all that has to be loaded before."""
        return finished(self.planning(survey, situation))

    def planning(self, survey: ScanResult, situation: Situation) -> Steps[Plan]:
        """Do the same as `plan`, and yield before each directory; records may change meanwhile."""
        version = situation.knowledge.version
        self._apply_rules(situation)
        kept = self._unchanged(survey, situation)
        if kept is not None:
            return kept
        only = situation.selection.only
        shown = possible(survey, only) if only else survey
        draft = Draft(situation)
        runs = RunPlanner(draft)
        unnamed = frozenset(run.name.name for run in shown.runs if runs.is_settling(run))
        placing = Placing(situation.host, situation.storage, shown, situation.knowledge, situation.selection, unnamed)
        self._apply_placing(shown, unnamed)
        evals = EvalPlanner(draft, placing)
        found = belonging(shown, only, placing, evals.linked_run).evals if only else shown.evals
        missing = Missing()
        self._runs = yield from _add(draft, version, shown.runs, self._runs, runs.plan, runs.subjects, missing)
        self._evals = yield from _add(draft, version, found, self._evals, evals.plan, evals.subjects, missing)
        missing.require_none()
        plan = draft.collected(shown.left_out)
        is_kept = len(self._runs) + len(self._evals) == len(shown.runs) + len(found)
        # Requests are counted in each plan, whatever directories they concern.
        self._last = (survey, version, plan) if is_kept and not plan.request_states else None
        if self._last is not None:
            self._note(situation)
        return plan

    def last(self, survey: ScanResult, situation: Situation) -> Plan | None:
        """Return the last plan if `plan` would return it again and nothing is to be done by it; cheap."""
        self._apply_rules(situation)
        return self._unchanged(survey, situation)

    def kept(self, directory: RunDir | EvalDir) -> object | None:
        """Return the part of a directory if the last plan may use it again: the same object, as long as that holds."""
        known = (self._runs if isinstance(directory, RunDir) else self._evals).get(id(directory))
        return known if known is not None and known.directory is directory else None

    def _apply_rules(self, now: Situation) -> None:
        """Drop all parts if anything that affects every directory changed."""
        rules = (
            now.host,
            now.storage,
            now.knowledge,
            now.selection,
            now.settle,
            dict(now.undecided),
            dict(now.refused),
            frozenset(now.failing),
        )
        if rules != self._rules:
            self._rules = rules
            self._runs, self._evals, self._last = {}, {}, None

    def _apply_placing(self, shown: ScanResult, unnamed: frozenset[str]) -> None:
        """Drop the parts of evals whose place depends on other directories of the host, if these changed."""
        placed_by = (unnamed, tuple(each for each in shown.evals if each.is_base))
        if placed_by == self._placed_by:
            return
        is_other_run = not self._placed_by or unnamed != self._placed_by[0]
        self._placed_by = placed_by
        self._evals = {
            key: kept
            for key, kept in self._evals.items()
            if not is_other_run and isinstance(kept.directory, EvalDir) and not kept.directory.is_base
        }

    def _unchanged(self, survey: ScanResult, now: Situation) -> Plan | None:
        """Return the last plan if it is the present one."""
        if (
            self._last is None
            or now.now >= self._due
            or (self._liveness is not None and self._liveness != now.liveness)
        ):
            return None
        seen, version, plan = self._last
        if seen is not survey or now.knowledge.changed_at(self._subjects) > version:
            return None
        self._last = seen, now.knowledge.version, plan
        return plan

    def _note(self, now: Situation) -> None:
        """Note what the last plan depends on."""
        kept = [*self._runs.values(), *self._evals.values()]
        self._due = min((each.part.due for each in kept), default=math.inf)
        self._subjects = frozenset(chain([ANY_REQUEST], *(each.subjects for each in kept)))
        self._liveness = now.liveness if any(each.liveness is not None for each in kept) else None


def _add(
    draft: Draft,
    version: int,
    directories: Sequence[RunDir] | Sequence[EvalDir],
    before: dict[int, _Kept],
    plan: Callable[..., None],
    subjects: Callable[..., tuple[Hashable, ...]],
    missing: Missing,
) -> Steps[dict[int, _Kept]]:
    """Add directories to a draft; return the parts that may be used again, by the directory's id.

    `version`: of the index when the plan was begun; what changed since counts as a change after the plan. `missing`
    receives what has to be loaded; then the draft is useless.
    """
    kept: dict[int, _Kept] = {}
    for directory in directories:
        yield
        known = before.get(id(directory))
        if known is None or not known.holds(directory, draft.now):
            draft.begin()
            steps = missing.steps
            with missing.noted():
                plan(directory)
            part = draft.end()
            if part is None or missing.steps > steps:
                continue
            liveness = draft.now.liveness if part.uses_liveness else None
            known = _Kept(directory, part, subjects(directory), version, liveness)
        else:
            draft.reuse(known.part)
        kept[id(directory)] = known
    return kept


def make_plan(survey: ScanResult, situation: Situation) -> Plan:
    """Return the plan of one host without an earlier one: the same as `HostPlanner.plan`."""
    return HostPlanner().plan(survey, situation)
