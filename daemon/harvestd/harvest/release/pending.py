"""Termination requests without a clear answer: the cloud's list shows the result in the end.

An instance that is listed as ending has ended. One that is not listed has ended after several complete answers without
it.
"""

import time
from collections import Counter
from collections.abc import Iterable

from msgspec.structs import replace

from harvestd.catalogue.entries import Decision, ReleaseOutcome
from harvestd.errors import Retry
from harvestd.harvest.release.cloud import listed, named_in
from harvestd.inventory.lambda_cloud.instances import Answer
from harvestd.inventory.lambda_cloud.last_good import AGREEING
from harvestd.settings import LambdaCloud


class Unclear:
    """Decisions whose result is unknown."""

    def __init__(self) -> None:
        self._open: dict[str, Decision] = {}
        """By identity: the last decision about each host."""
        self._absent: Counter[str] = Counter()
        """How many answers in a row did not list it."""
        self._asked_at: float | None = None

    def take(self, decision: Decision) -> None:
        """Track the results of decisions, which are passed in order."""
        if decision.outcome in {ReleaseOutcome.ASKED, ReleaseOutcome.UNCLEAR}:
            self._open[decision.identity] = decision
        elif decision.outcome is ReleaseOutcome.RELEASED:
            self._open.pop(decision.identity, None)

    async def settled(self, cloud: LambdaCloud) -> Iterable[Decision]:
        """Return the decisions that turned out as released, by the cloud's list.

        The list is queried no more often than the inventory's interval.
        """
        now = time.monotonic()
        if not self._open or (self._asked_at is not None and now - self._asked_at < cloud.interval.total_seconds()):
            return []
        self._asked_at = now
        try:
            answer = await listed(cloud)
        except Retry:  # the inventory reports it; the query is repeated
            return []
        return [
            replace(decision, outcome=ReleaseOutcome.RELEASED)
            for identity, decision in self._open.items()
            if self._has_ended(identity, answer)
        ]

    def _has_ended(self, identity: str, answer: Answer) -> bool:
        named = named_in(answer, identity)
        if named is not None or not answer.whole:
            self._absent.pop(identity, None)
            return named is not None and named.is_ending
        self._absent[identity] += 1
        return self._absent[identity] >= AGREEING
