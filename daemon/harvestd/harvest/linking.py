"""The way from a host to a connection: in turn with all other hosts, and not beyond a sleep of the workstation."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from harvestd.harvest.house import House
from harvestd.harvest.pins import Pins
from harvestd.inventory.provider import Host
from harvestd.remote.connecting import Connection, connect
from harvestd.remote.hops import Hops

_WAYS = 8
"""Hops to one host, each with a deadline of its own; beyond what anybody has."""


@asynccontextmanager
async def linked(host: Host, house: House, window: int, hops: Hops) -> AsyncIterator[Connection]:
    """Connect to a host, with `window` bytes in flight on each channel, through `hops`; raises as `connect` does.

    It is one of the few that log in at the same time only until it is logged in, or failed.
    """
    async with AsyncExitStack() as stack:
        async with house.connecting:
            target = house.target_of(host)
            connecting = connect(target, Pins(host, house), window=window, hops=hops)
            with house.deadlines.within(_WAYS * target.connect_timeout.total_seconds(), f"connecting to {host.name}"):
                connection = await stack.enter_async_context(connecting)
        stack.enter_context(house.waking.ending(connection))
        yield connection
