"""Asks the cloud to terminate one instance; the request is recorded before it is sent, and the answer after that.

Decides nothing: the caller has proved that the host may be terminated. An unclear answer never counts as no effect.

Termination requests without a clear answer: the cloud's list shows the result in the end. An instance that is listed
as ending has ended. One that is not listed has ended after several complete answers without it.
"""

import time
from collections import Counter
from collections.abc import Iterable
from contextlib import suppress
from datetime import timedelta

from msgspec.structs import replace

from harvestd.catalogue.entries import Decision, ReleaseOutcome
from harvestd.catalogue.hosts import Releases
from harvestd.convention.structs import Immutable
from harvestd.errors import DiskFull, Retry
from harvestd.inventory.host import Host
from harvestd.inventory.lambda_api import Instance, InstanceList, TerminationState, client_of, instances_of, terminate
from harvestd.inventory.lambda_provider import AGREEING
from harvestd.settings import LambdaCloud

_OUTCOMES = {
    TerminationState.TERMINATED: ReleaseOutcome.RELEASED,
    TerminationState.REFUSED: ReleaseOutcome.REFUSED,
    TerminationState.UNCLEAR: ReleaseOutcome.UNCLEAR,
}


class TerminationResult(Immutable):
    """The result of a termination request."""

    decision: Decision
    wait: timedelta = timedelta()
    """The cloud must not be asked again before this has passed."""


def id_of(host: Host) -> str:
    """Return the cloud's id of a host."""
    return host.identity.removeprefix(f"{host.source}:")


async def listed(settings: LambdaCloud) -> InstanceList:
    """Return the instances that the cloud lists now. Raise `Retry`."""
    async with client_of(settings) as client:
        return await instances_of(client, settings)


def named_in(answer: InstanceList, identity: str) -> Instance | None:
    """Return the listed instance with this host identity; None if it is not listed."""
    return next((each for each in answer.instances if identity.endswith(f":{each.id}")), None)


async def end(
    host: Host, why: str, settings: LambdaCloud, releases: Releases, *, by_hand: bool = False
) -> TerminationResult:
    """Ask the cloud to terminate this one host, on record. Raise `HaltedForSafety` if that can't be recorded."""
    asked = await releases.keep(Decision(host.name, host.identity, why, ReleaseOutcome.ASKED, by_hand=by_hand))
    async with client_of(settings) as client:
        outcome = await terminate(client, settings, id_of(host))
    decision = replace(asked, outcome=_OUTCOMES[outcome.ending], detail=outcome.detail)
    with suppress(DiskFull):  # it stays on record as asked: the next process finds the result in the cloud's list
        await releases.settle(decision)
    return TerminationResult(decision, outcome.wait)


class UnconfirmedTerminations:
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

    def _has_ended(self, identity: str, answer: InstanceList) -> bool:
        named = named_in(answer, identity)
        if named is not None or not answer.whole:
            self._absent.pop(identity, None)
            return named is not None and named.is_ending
        self._absent[identity] += 1
        return self._absent[identity] >= AGREEING
