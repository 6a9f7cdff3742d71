"""Pinned host keys, stored in the catalogue; a first pin is logged, since it is trust on first use."""

import anyio.to_thread

from harvestd.catalogue.state_dir import kept_pin
from harvestd.harvest.context import Context
from harvestd.inventory.host import Host
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
        if not self._context.knows.is_set() and identity in self._context.links.new_pins:
            return self._context.links.new_pins[identity]
        if self._context.knows.is_set():
            return await self._context.catalogue.get(identity)
        return await anyio.to_thread.run_sync(kept_pin, self._context.settings.state, identity)

    async def put(self, identity: str, key_line: str) -> None:
        """Pin a key under `identity`, and log it. Raise `HostKeyChanged` if another one was pinned meanwhile."""
        if self._context.knows.is_set():
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
