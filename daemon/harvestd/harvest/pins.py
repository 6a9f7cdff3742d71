"""Pinned host keys, kept in the catalogue; a first pin is worth an event, since it rests on trust."""

from harvestd.catalogue.catalogue import Catalogue
from harvestd.inventory.provider import Host
from harvestd.remote.host_keys import HostKey
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger


class Pins:
    """The pin store that `remote` asks for, for one host and its jump hosts."""

    def __init__(self, host: Host, catalogue: Catalogue) -> None:
        self._host = host
        self._catalogue = catalogue

    async def get(self, identity: str) -> str | None:
        """Give the key pinned under `identity`."""
        return await self._catalogue.get(identity)

    async def put(self, identity: str, key_line: str) -> None:
        """Pin a key under `identity`, and say so."""
        await self._catalogue.put(identity, key_line)
        get_logger().info(
            Event.HOST_PINNED,
            host=self._host.name,
            address=self._host.address,
            identity=identity,
            fingerprint=HostKey.parse(key_line).fingerprint,
        )
