"""Asks the cloud to terminate one instance; the request is recorded before it is sent, and the answer after that.

Decides nothing: the caller has proved that the host may be terminated. An unclear answer never counts as no effect.
"""

from contextlib import suppress
from datetime import timedelta

from msgspec.structs import replace

from harvestd.catalogue.entries import Decision, ReleaseOutcome
from harvestd.catalogue.hosts import Releases
from harvestd.convention.structs import Immutable
from harvestd.errors import DiskFull
from harvestd.inventory.host import Host
from harvestd.inventory.lambda_cloud.api import Ending, client_of, instances_of, terminate
from harvestd.inventory.lambda_cloud.instances import Answer, Instance
from harvestd.settings import LambdaCloud

_OUTCOMES = {
    Ending.TERMINATED: ReleaseOutcome.RELEASED,
    Ending.REFUSED: ReleaseOutcome.REFUSED,
    Ending.UNCLEAR: ReleaseOutcome.UNCLEAR,
}


class Ended(Immutable):
    """The result of a termination request."""

    decision: Decision
    wait: timedelta = timedelta()
    """The cloud must not be asked again before this has passed."""


def id_of(host: Host) -> str:
    """Return the cloud's id of a host."""
    return host.identity.removeprefix(f"{host.source}:")


async def listed(settings: LambdaCloud) -> Answer:
    """Return the instances that the cloud lists now. Raise `Retry`."""
    async with client_of(settings) as client:
        return await instances_of(client, settings)


def named_in(answer: Answer, identity: str) -> Instance | None:
    """Return the listed instance with this host identity; None if it is not listed."""
    return next((each for each in answer.instances if identity.endswith(f":{each.id}")), None)


async def end(host: Host, why: str, settings: LambdaCloud, releases: Releases, *, by_hand: bool = False) -> Ended:
    """Ask the cloud to terminate this one host, on record. Raise `HaltedForSafety` if that can't be recorded."""
    asked = await releases.keep(Decision(host.name, host.identity, why, ReleaseOutcome.ASKED, by_hand=by_hand))
    async with client_of(settings) as client:
        outcome = await terminate(client, settings, id_of(host))
    decision = replace(asked, outcome=_OUTCOMES[outcome.ending], detail=outcome.detail)
    with suppress(DiskFull):  # it stays on record as asked: the next process finds the result in the cloud's list
        await releases.settle(decision)
    return Ended(decision, outcome.wait)
