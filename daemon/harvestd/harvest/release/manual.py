"""Releasing one host because a person asks for it: the checks of the daemon's own releasing, without its list and rate.

The verdict is that of whoever watches the host; the box is asked who it is before that is made and after it. Nothing is
terminated where any of them says no.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from harvestd.catalogue.engine import Database, open_engine
from harvestd.catalogue.entries import Decision
from harvestd.catalogue.tables.releases import Releases
from harvestd.convention.structs import Immutable
from harvestd.errors import HostQuarantined, Retry, unwrapped
from harvestd.harvest.fleet.connections import connected
from harvestd.harvest.fleet.identify import who_is
from harvestd.harvest.release.cloud import end, listed, named_in
from harvestd.harvest.release.policy import Who, reason_for, why_another, why_not_named, why_not_safe
from harvestd.harvest.startup.open import scratch_house
from harvestd.inventory.host import Host
from harvestd.safety.verdict import Verdict
from harvestd.settings import Settings

Judge = Callable[[Host], Awaitable[Verdict]]
"""Gives the verdict on a host that is made now."""

_PATIENCE = 60.0
"""Seconds to wait for our turn to write beside a daemon."""


class Examined(Immutable):
    """What the checks came to."""

    verdict: Verdict | None = None
    """None: it was not got so far."""
    hindrance: str = ""
    """Why it may not be terminated; empty where it may."""


async def examined(host: Host, settings: Settings, judge: Judge) -> Examined:
    """Make all checks: the verdict, the machine that answers, and what the cloud says of it. Changes nothing.

    Raises `Retry` where the cloud's list can't be had.
    """
    verdict: Verdict | None = None
    try:
        with unwrapped():
            async with scratch_house(settings) as house, connected(host, house) as (box, _):
                then = await who_is(box, house.limits, settings.verdict.ignore_programs)
                verdict = await judge(host)
                if not verdict.is_safe:
                    return Examined(verdict, why_not_safe(verdict)[0])
                now = await who_is(box, house.limits, settings.verdict.ignore_programs)
    except (Retry, HostQuarantined) as e:
        return Examined(verdict, str(e))
    return Examined(verdict, why_another(then, now) or await _why_not_named(host, now, settings))


async def _why_not_named(host: Host, who: Who, settings: Settings) -> str:
    answer = await listed(settings.lambda_cloud)
    return why_not_named(host, who, named_in(answer, host.identity))


async def release(host: Host, verdict: Verdict, settings: Settings) -> Decision:
    """Have the cloud terminate a host that was examined, on record; raises `HaltedForSafety` where it can't be."""
    database = Database(open_engine(settings.state, patience=_PATIENCE))
    try:
        why = f"asked for by hand: {reason_for(verdict, timedelta())}"
        ended = await end(host, why, settings.lambda_cloud, Releases(database), by_hand=True)
    finally:
        database.close()
    return ended.decision
