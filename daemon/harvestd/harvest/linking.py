"""The way from a host to a connection: in turn with all other hosts, and not beyond a sleep of the workstation."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from harvestd.harvest.house import House
from harvestd.harvest.pins import Pins
from harvestd.inventory.provider import Host
from harvestd.remote.connecting import Connection, connect


@asynccontextmanager
async def linked(host: Host, house: House, window: int) -> AsyncIterator[Connection]:
    """Connect to a host, with `window` bytes in flight on each channel; raises as `connect` does.

    It is one of the few that log in at the same time only until it is logged in, or failed.
    """
    async with AsyncExitStack() as stack:
        async with house.connecting:
            connecting = connect(house.target_of(host), Pins(host, house), window=window)
            connection = await stack.enter_async_context(connecting)
        stack.enter_context(house.waking.ending(connection))
        yield connection
