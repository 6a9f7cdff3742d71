"""A connected host for the duration of a task: the link, the remote interface, and the host's facts."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from harvestd.harvest.context import Context
from harvestd.harvest.fleet.login import linked
from harvestd.harvest.host.liveness import shown
from harvestd.inventory.host import Host
from harvestd.remote.api import Box, BoxFacts
from harvestd.remote.open import open_box


@asynccontextmanager
async def connected(host: Host, context: Context) -> AsyncIterator[tuple[Box, BoxFacts]]:
    """Connect to a host and open its remote interface. Raise `Retry` and `HostQuarantined`, as `remote` does."""
    async with AsyncExitStack() as stack:
        connection = await stack.enter_async_context(linked(host, context, context.window, context.links.hops))
        watch, every = context.watch_list_of(host), context.settings.poll.interval
        box = await stack.enter_async_context(open_box(connection, watch, context.limits, every=every))
        facts = await box.facts()
        with shown(context, host, box):
            yield box, facts
