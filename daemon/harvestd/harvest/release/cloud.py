"""Having the cloud end one instance: what it is asked is on record before it is asked, and what it answered after that.

It decides nothing: who calls it has proved that the box may go. What comes of a question is never taken for nothing.
"""

from contextlib import suppress
from datetime import timedelta

from msgspec.structs import replace

from harvestd.catalogue.entries import Decision, ReleaseOutcome
from harvestd.catalogue.tables.releases import Releases
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
    """What came of it."""

    decision: Decision
    wait: timedelta = timedelta()
    """The cloud is not to be asked again before."""


def id_of(host: Host) -> str:
    """Return the cloud's id of a host."""
    return host.identity.removeprefix(f"{host.source}:")


async def listed(settings: LambdaCloud) -> Answer:
    """Ask the cloud which instances there are now; raises `Retry`."""
    async with client_of(settings) as client:
        return await instances_of(client, settings)


def named_in(answer: Answer, identity: str) -> Instance | None:
    """Return what the cloud says of the host with this identity; None where it does not name it."""
    return next((each for each in answer.instances if identity.endswith(f":{each.id}")), None)


async def end(host: Host, why: str, settings: LambdaCloud, releases: Releases, *, by_hand: bool = False) -> Ended:
    """Ask the cloud to terminate this one host, on record. Raises `HaltedForSafety` where that can't be recorded."""
    asked = await releases.keep(Decision(host.name, host.identity, why, ReleaseOutcome.ASKED, by_hand=by_hand))
    async with client_of(settings) as client:
        outcome = await terminate(client, settings, id_of(host))
    decision = replace(asked, outcome=_OUTCOMES[outcome.ending], detail=outcome.detail)
    with suppress(DiskFull):  # it stays on record as asked: the cloud's list tells the next process what came of it
        await releases.settle(decision)
    return Ended(decision, outcome.wait)
