"""Work on one host without a daemon: watched for as long as a command needs it, or scanned once.

Both use the daemon's own parts. Watching holds the data root, fetches what the host shows, and handles the requests
that are made meanwhile.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from harvestd.errors import HostQuarantined, Retry
from harvestd.harvest.fleet.fleet import Fleet
from harvestd.harvest.fleet.metrics import FleetMetrics
from harvestd.harvest.monitor import NullListener
from harvestd.harvest.startup.open import open_context
from harvestd.harvest.sync import Broadcast
from harvestd.inventory.host import Host
from harvestd.safety.verdict import Answer, Reason, ReasonKind, Verdict
from harvestd.settings import Settings
from harvestd.store.lock import HolderKind


@asynccontextmanager
async def watching_alone(settings: Settings, name: str) -> AsyncIterator[None]:
    """Watch the host called `name` for the duration of the body.

    Raise as `opened_house` (`Held`: another process holds the data root); errors may come in a group.
    """
    tally = FleetMetrics()
    opening = open_context(settings, tally, kind=HolderKind.ATTENDANT)
    async with opening as (context, root), anyio.create_task_group() as tasks:
        await context.knows.wait()
        from harvestd.harvest.experiments.reports import Reports  # noqa: PLC0415  (imported by a thread of `startup.open`)

        await tasks.start(Fleet(context, root, Broadcast(), tally, only=frozenset({name})).run)
        tasks.start_soon(context.service_failures.keep_running, "reports", Reports(context, root).run)
        yield
        tasks.cancel_scope.cancel()


async def looked_at_once(settings: Settings, host: Host) -> Verdict:
    """Connect to a host, make one full scan, and return the verdict: never safe, but with all reasons.

    Fetches nothing. Raise as `watching_alone`.
    """
    async with open_context(settings, NullListener()) as (context, root):
        context.fleet.known = 1
        await context.knows.wait()
        from harvestd.harvest.verdict.on_demand import judged_alone  # noqa: PLC0415  (the same)

        try:
            return await judged_alone(host, context, root)
        except (Retry, HostQuarantined) as e:
            return Verdict(Answer.NOT_SAFE, (Reason(ReasonKind.NOT_CONNECTED, str(e)),))
