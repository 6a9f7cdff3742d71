"""Work on one host without a daemon: watched for as long as a command needs it, or scanned once.

Both use the daemon's own parts. Watching holds the data root, fetches what the host shows, and handles the requests
that are made meanwhile.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from harvestd.errors import HostQuarantined, Retry
from harvestd.harvest.fleet.fleet import Fleet
from harvestd.harvest.fleet.metrics import Tally
from harvestd.harvest.monitor import Silent
from harvestd.harvest.startup.open import opened_house
from harvestd.harvest.sync import Bell
from harvestd.inventory.host import Host
from harvestd.safety.verdict import Answer, Reason, ReasonKind, Verdict
from harvestd.settings import Settings
from harvestd.store.lock import HolderKind


@asynccontextmanager
async def watching_alone(settings: Settings, name: str) -> AsyncIterator[None]:
    """Watch the host called `name` for the duration of the body.

    Raise as `opened_house` (`Held`: another process holds the data root); errors may come in a group.
    """
    tally = Tally()
    opening = opened_house(settings, tally, kind=HolderKind.ATTENDANT)
    async with opening as (house, root), anyio.create_task_group() as tasks:
        await house.knows.wait()
        from harvestd.harvest.experiments.reports import Reports  # noqa: PLC0415  (imported by a thread of `startup.open`)

        await tasks.start(Fleet(house, root, Bell(), tally, only=frozenset({name})).run)
        tasks.start_soon(house.service_failures.keep_running, "reports", Reports(house, root).run)
        yield
        tasks.cancel_scope.cancel()


async def looked_at_once(settings: Settings, host: Host) -> Verdict:
    """Connect to a host, make one full scan, and return the verdict: never safe, but with all reasons.

    Fetches nothing. Raise as `watching_alone`.
    """
    async with opened_house(settings, Silent()) as (house, root):
        house.known = 1
        await house.knows.wait()
        from harvestd.harvest.verdict.on_demand import judged_alone  # noqa: PLC0415  (the same)

        try:
            return await judged_alone(host, house, root)
        except (Retry, HostQuarantined) as e:
            return Verdict(Answer.NOT_SAFE, (Reason(ReasonKind.NOT_CONNECTED, str(e)),))
