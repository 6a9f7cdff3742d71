"""Manual release of one host: the checks of the automatic release, without its list of hosts and its rate limit.

The verdict comes from the process that watches the host. The machine is identified before and after the verdict. The
host is terminated only if every check passes.
"""

from collections.abc import Awaitable, Callable
from datetime import timedelta

from harvestd.catalogue.engine import Database, open_engine
from harvestd.catalogue.entries import Decision
from harvestd.catalogue.hosts import Releases
from harvestd.convention.structs import Immutable
from harvestd.errors import HostQuarantined, Retry, unwrapped
from harvestd.harvest.fleet.connections import connected, who_is
from harvestd.harvest.release.cloud import end, listed, named_in
from harvestd.harvest.release.policy import Who, reason_for, why_another, why_not_named, why_not_safe
from harvestd.harvest.startup.open import open_read_only_context
from harvestd.inventory.host import Host
from harvestd.safety.verdict import Verdict
from harvestd.settings import Settings

Judge = Callable[[Host], Awaitable[Verdict]]
"""Makes a verdict on a host now, and returns it."""

_PATIENCE = 60.0
"""Seconds to wait for the write lock beside a daemon."""


class Examined(Immutable):
    """The result of the checks."""

    verdict: Verdict | None = None
    """None if the checks ended before the verdict."""
    hindrance: str = ""
    """Why it may not be terminated; empty if it may."""


async def examined(host: Host, settings: Settings, judge: Judge) -> Examined:
    """Make all checks: the verdict, the machine that answers, and the cloud's entry. Changes nothing.

    Raise `Retry` if the cloud's list can't be read.
    """
    verdict: Verdict | None = None
    try:
        with unwrapped():
            async with open_read_only_context(settings) as context, connected(host, context) as (box, _):
                then = await who_is(box, context.limits, settings.verdict.ignore_programs)
                verdict = await judge(host)
                if not verdict.is_safe:
                    return Examined(verdict, why_not_safe(verdict)[0])
                now = await who_is(box, context.limits, settings.verdict.ignore_programs)
    except (Retry, HostQuarantined) as e:
        return Examined(verdict, str(e))
    return Examined(verdict, why_another(then, now) or await _why_not_named(host, now, settings))


async def _why_not_named(host: Host, who: Who, settings: Settings) -> str:
    answer = await listed(settings.lambda_cloud)
    return why_not_named(host, who, named_in(answer, host.identity))


async def release(host: Host, verdict: Verdict, settings: Settings) -> Decision:
    """Ask the cloud to terminate a host that was examined, on record.

    Raise `HaltedForSafety` if that can't be recorded.
    """
    database = Database(open_engine(settings.state, patience=_PATIENCE))
    try:
        why = f"asked for by hand: {reason_for(verdict, timedelta())}"
        ended = await end(host, why, settings.lambda_cloud, Releases(database), by_hand=True)
    finally:
        database.close()
    return ended.decision
