"""The way from a host to a connection: a few logins at the same time, and not beyond a sleep of the workstation.

A login costs both sides processor time, so their number is limited. A host that does not answer costs none, and must
not keep others waiting until its deadline: its slot is given back before long, and once it failed it is tried among
those that failed, in slots of their own.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from harvestd.errors import HarvestError
from harvestd.harvest.context import House
from harvestd.harvest.fleet.pinned_keys import Pins
from harvestd.harvest.slots import slot
from harvestd.inventory.host import Host
from harvestd.remote.ssh.connect import Connection, connect
from harvestd.remote.ssh.jump_hosts import Hops

_WAYS = 10
"""Connect time-outs that one connection takes at most: the host's, and one for each of its jump hosts."""
_PROMPT = 1.0
"""Seconds for which a host holds a slot; most are logged in by then."""


@asynccontextmanager
async def linked(host: Host, house: House, window: int, hops: Hops) -> AsyncIterator[Connection]:
    """Connect to a host, with `window` bytes in flight on each channel, through `hops`; raises as `connect` does."""
    async with AsyncExitStack() as stack:
        limiter = house.reconnecting if host.identity in house.unreached else house.connecting
        async with slot(limiter, _PROMPT):
            target = house.target_of(host)
            connecting = connect(target, Pins(host, house), window=window, hops=hops)
            with house.deadlines.within(_WAYS * target.connect_timeout.total_seconds(), f"connecting to {host.name}"):
                try:
                    connection = await stack.enter_async_context(connecting)
                except HarvestError:
                    house.unreached.add(host.identity)
                    raise
        house.unreached.discard(host.identity)
        stack.enter_context(house.waking.ending(connection))
        yield connection
