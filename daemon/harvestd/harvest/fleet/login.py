"""Opens the connection to a host: limits concurrent logins, and ends connections after a suspend of the workstation.

A login costs processor time on both sides, so the number of concurrent logins is limited. A host that does not answer
costs none, and must not delay others until its deadline: its slot is released early, and after a failure it uses the
separate slots for failed hosts.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from harvestd.errors import HarvestError
from harvestd.harvest.context import Context
from harvestd.harvest.fleet.pinned_keys import Pins
from harvestd.harvest.slots import slot
from harvestd.inventory.host import Host
from harvestd.remote.ssh.connect import Connection, connect
from harvestd.remote.ssh.jump_hosts import Hops

_WAYS = 10
"""The most connect time-outs for one connection: the host's, and one for each of its jump hosts."""
_PROMPT = 1.0
"""Seconds for which a host holds a slot; most are logged in by then."""


@asynccontextmanager
async def linked(host: Host, context: Context, window: int, hops: Hops) -> AsyncIterator[Connection]:
    """Connect to a host through `hops`, with `window` bytes in flight per channel. Raise as `connect` does."""
    async with AsyncExitStack() as stack:
        state, budgets = context.states.of(host.identity), context.budgets
        limiter = budgets.reconnecting if state.is_unreached else budgets.connecting
        async with slot(limiter, _PROMPT):
            target = context.target_of(host)
            connecting = connect(target, Pins(host, context), window=window, hops=hops)
            with context.deadlines.within(_WAYS * target.connect_timeout.total_seconds(), f"connecting to {host.name}"):
                try:
                    connection = await stack.enter_async_context(connecting)
                except HarvestError:
                    state.is_unreached = True
                    raise
        state.is_unreached = False
        stack.enter_context(context.links.waking.ending(connection))
        yield connection
