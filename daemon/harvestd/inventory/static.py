"""The hosts that the operator wrote down: the `[[hosts]]` tables. They are there as long as they stand in the file."""

from collections.abc import Iterable

import anyio

from harvestd.inventory.provider import Host, Publish
from harvestd.settings import HostSettings


class StaticHosts:
    """The provider of the hosts in the configuration; `replace` follows a reload."""

    name = "static"

    def __init__(self, tables: Iterable[HostSettings]) -> None:
        self._hosts = _hosts(tables)
        self._replaced = anyio.Event()

    def replace(self, tables: Iterable[HostSettings]) -> None:
        """Take the tables of a reloaded configuration in place of those before."""
        self._hosts = _hosts(tables)
        self._replaced.set()

    async def run(self, publish: Publish) -> None:
        """Publish the hosts, now and after each `replace`, until cancelled."""
        while True:
            self._replaced = anyio.Event()
            publish(self._hosts)
            await self._replaced.wait()


def _hosts(tables: Iterable[HostSettings]) -> frozenset[Host]:
    return frozenset(
        Host(
            identity=f"{StaticHosts.name}:{table.name}",
            name=table.name,
            address=table.address,
            source=StaticHosts.name,
            hardware=table.hardware,
            experiment=table.experiment,
        )
        for table in tables
    )
