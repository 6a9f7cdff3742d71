"""One pass over some hosts, side by side: with fetching (`once`), or only saying what would be done (`plan`)."""

from collections.abc import Sequence
from dataclasses import dataclass

import anyio
import anyio.to_thread

from harvestd.catalogue.opening import open_scratch
from harvestd.convention.plan import Plan
from harvestd.errors import ExitCode, Fatal, HarvestError, HostQuarantined, Retry, unwrapped
from harvestd.harvest.house import House
from harvestd.harvest.monitor import Monitor, Silent
from harvestd.harvest.opening import opened_house
from harvestd.harvest.session import PassResult
from harvestd.harvest.watcher import single_look, single_pass
from harvestd.inventory.merge import Inventory
from harvestd.inventory.provider import Host
from harvestd.inventory.static import StaticHosts
from harvestd.settings import Settings


@dataclass(frozen=True, slots=True)
class HostOutcome:
    """What a single pass, or a plan, came to for one host."""

    host: Host
    result: PassResult | None = None
    plan: Plan | None = None
    error: HarvestError | None = None
    """Why the host could not be read at all."""


async def hosts_of(settings: Settings, names: Sequence[str] = ()) -> list[Host]:
    """Give the hosts that are known now, or those called `names`; raises `Fatal` (4) for a name nobody has."""
    inventory = Inventory([StaticHosts(settings.hosts)], lambda _: None)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(inventory.run)
        await inventory.wait_complete()
        found = {host.name: host for host in inventory.hosts}
        tasks.cancel_scope.cancel()
    unknown = [name for name in names if name not in found]
    if unknown:
        raise Fatal(
            f"no host is called {', '.join(unknown)}",
            hint=f"known: {', '.join(sorted(found)) or 'none; add [[hosts]] to the configuration'}",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    return [found[name] for name in names or sorted(found)]


async def once(settings: Settings, hosts: Sequence[Host], monitor: Monitor) -> list[HostOutcome]:
    """Make one whole pass over these hosts, side by side. Raises `Fatal` and `HaltedForSafety`."""
    outcomes: dict[str, HostOutcome] = {}

    with unwrapped():
        async with opened_house(settings, monitor) as (house, root):

            async def visit(host: Host) -> None:
                try:
                    outcomes[host.name] = HostOutcome(host, result=await single_pass(host, house, root))
                except (Retry, HostQuarantined) as e:
                    outcomes[host.name] = HostOutcome(host, error=e)

            async with anyio.create_task_group() as tasks:
                for host in hosts:
                    tasks.start_soon(visit, host)
    return [outcomes[host.name] for host in hosts]


async def plan(settings: Settings, hosts: Sequence[Host]) -> list[HostOutcome]:
    """Plan a pass over these hosts without fetching and without changing anything here, beside a running daemon too."""
    outcomes: dict[str, HostOutcome] = {}
    catalogue = await anyio.to_thread.run_sync(open_scratch, settings.state)
    house = House.of(settings, catalogue, Silent())

    async def look(host: Host) -> None:
        try:
            outcomes[host.name] = HostOutcome(host, plan=await single_look(host, house))
        except (Retry, HostQuarantined) as e:
            outcomes[host.name] = HostOutcome(host, error=e)

    with unwrapped():
        async with anyio.create_task_group() as tasks:
            for host in hosts:
                tasks.start_soon(look, host)
    return [outcomes[host.name] for host in hosts]
