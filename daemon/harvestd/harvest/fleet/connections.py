"""Open a host's connections: log in, compare pinned keys, identify the machine.

Opens the connection to a host: limits concurrent logins, and ends connections after a suspend of the workstation. A
login costs processor time on both sides, so the number of concurrent logins is limited. A host that does not answer
costs none, and must not delay others until its deadline: its slot is released early, and after a failure it uses the
separate slots for failed hosts.
"""

from collections.abc import AsyncIterator, Collection
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta

import anyio
import anyio.to_thread

from harvestd.catalogue.state_dir import kept_pin
from harvestd.errors import HarvestError, Retry
from harvestd.harvest.budgets import slot
from harvestd.harvest.context import Context
from harvestd.harvest.host.health import shown
from harvestd.harvest.release.policy import MachineIdentity
from harvestd.inventory.host import Host
from harvestd.remote.api import Box, BoxFacts, Limits
from harvestd.remote.open import open_box
from harvestd.remote.ssh.connect import connect
from harvestd.remote.ssh.connection import Connection, Hops
from harvestd.remote.ssh.errors import HostKeyChanged
from harvestd.remote.ssh.host_keys import HostKey
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger


class Pins:
    """The pin store that `remote` uses, for one host and its jump hosts."""

    def __init__(self, host: Host, context: Context) -> None:
        self._host = host
        self._context = context

    async def get(self, identity: str) -> str | None:
        """Return the key pinned under `identity`."""
        if not self._context.catalogue_opened.is_set() and identity in self._context.links.new_pins:
            return self._context.links.new_pins[identity]
        if self._context.catalogue_opened.is_set():
            return await self._context.catalogue.get(identity)
        return await anyio.to_thread.run_sync(kept_pin, self._context.settings.state, identity)

    async def put(self, identity: str, key_line: str) -> None:
        """Pin a key under `identity`, and log it. Raise `HostKeyChanged` if another one was pinned meanwhile."""
        if self._context.catalogue_opened.is_set():
            await self._context.catalogue.put(identity, key_line)
        else:
            self._context.links.new_pins.setdefault(identity, key_line)
        kept, shown = HostKey.parse(await self.get(identity) or key_line), HostKey.parse(key_line)
        if not kept.same_as(shown):
            # Two first connections at the same time: only one of them saw the key that is pinned.
            raise HostKeyChanged(
                f"{self._host.name}: two connections to {identity} were shown different host keys: "
                f"{kept.fingerprint} was kept, and {shown.fingerprint} is refused",
                hint=f"if the first was wrong: harvestd forget-key {identity}",
            )
        get_logger().info(
            Event.HOST_PINNED,
            host=self._host.name,
            address=self._host.address,
            identity=identity,
            fingerprint=shown.fingerprint,
        )


_WAYS = 10
"""The most connect time-outs for one connection: the host's, and one for each of its jump hosts."""
SILENT = 0.3
"""Seconds for which a host holds a slot that sends nothing."""
_PROMPT = 1.0
"""Seconds for which it holds the slot from its first byte on; most are logged in by then."""


@asynccontextmanager
async def linked(host: Host, context: Context, window: int, hops: Hops) -> AsyncIterator[Connection]:
    """Connect to a host through `hops`, with `window` bytes in flight per channel. Raise as `connect` does."""
    async with AsyncExitStack() as stack:
        state, budgets = context.states.of(host.identity), context.budgets
        limiter = budgets.reconnecting if state.is_unreached else budgets.connecting
        async with slot(limiter, SILENT, _PROMPT) as answered:
            target = context.target_of(host)
            connecting = connect(target, Pins(host, context), window=window, hops=hops, answered=answered)
            with context.deadlines.within(_WAYS * target.connect_timeout.total_seconds(), f"connecting to {host.name}"):
                try:
                    connection = await stack.enter_async_context(connecting)
                except HarvestError:
                    state.is_unreached = True
                    raise
        state.is_unreached = False
        stack.enter_context(context.links.waking.ending(connection))
        yield connection


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


async def identify_machine(box: Box, limits: Limits, ignored: Collection[str] = ()) -> MachineIdentity:
    """Return the identity of a connected host, and its activity apart from the programs `ignored`.

    Raise `Retry` if it is too slow, as every query does.
    """
    # Beyond the host's own time limit, since earlier queries are answered first.
    seconds = (limits.inspect_time + limits.answer_time).total_seconds()
    try:
        with anyio.fail_after(seconds):
            # A time span of zero: no changed files are searched for.
            return MachineIdentity.of((await box.circumstances(timedelta())).without(ignored))
    except TimeoutError:
        raise Retry(
            f"it does not say within {seconds:g} s which machine it is and who works there; limits.inspect_time says "
            "how long that may take"
        ) from None
