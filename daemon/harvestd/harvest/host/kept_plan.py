"""Caches the plan of a host on which nothing changes: it is made once a minute instead of at each scan.

Planning iterates over everything that a host shows. Effects of time alone (a file that has settled, a run that has
died) are detected within the first minute, in which plans are not cached yet, or up to a minute late.
"""

from typing import Final

from harvestd.convention.scan.model import ScanResult
from harvestd.convention.scan.stability import NETWORK_SETTLE
from harvestd.planning.plan import Plan
from harvestd.planning.planner import Situation

_STILL: Final = NETWORK_SETTLE + 1.0
"""Seconds without a change before a plan is cached: nothing takes longer to settle."""
_GOOD_FOR: Final = 60.0
"""Seconds for which a cached plan is valid."""


class KeptPlan:
    """Keeps one host's plan for as long as all of its inputs stay the same."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._from: tuple[ScanResult, tuple[object, ...]] | None = None
        self._since = 0.0
        """Since when the inputs are unchanged, in monotonic seconds."""
        self._made = 0.0

    def still_good(self, seen: ScanResult, situation: Situation) -> Plan | None:
        """Return the plan that `make_plan` would return; None if it must be computed."""
        basis = (seen, _basis(situation))
        if self._from is None or self._from[0] is not seen or self._from[1] != basis[1]:
            self._from, self._since, self._plan = basis, situation.now, None
        elif situation.now - self._made > _GOOD_FOR:
            self._plan = None
        return self._plan

    def keep(self, plan: Plan, situation: Situation) -> None:
        """Keep a plan for the inputs that `still_good` was called with, if only a change could add work to it."""
        asks = not plan.is_empty or plan.waiting or plan.asks_for_life or plan.asked
        settled = situation.now - self._since >= max(_STILL, situation.settle)
        self._plan, self._made = plan if settled and not asks else None, situation.now


def _basis(situation: Situation) -> tuple[object, ...]:
    """Return everything that a plan depends on except the survey and the time."""
    return (
        situation.knowledge.version,
        situation.selection,
        situation.showing,
        dict(situation.undecided),
        dict(situation.refused),
        situation.life,
        set(situation.failing),
        situation.settle,
    )
