"""The provider of the hosts in the configuration: the `[[hosts]]` tables."""

from collections.abc import Iterable

import anyio

from harvestd.inventory.host import Host, Publish
from harvestd.settings import HostSettings


class StaticHosts:
    """The provider of the hosts in the configuration; `replace` follows a reload."""

    name = "static"

    def __init__(self, tables: Iterable[HostSettings]) -> None:
        self._hosts = _hosts(tables)
        self._publish: Publish | None = None

    @property
    def hosts(self) -> frozenset[Host]:
        """The hosts of the present tables."""
        return self._hosts

    def replace(self, tables: Iterable[HostSettings]) -> None:
        """Apply the tables of a reloaded configuration."""
        self._hosts = _hosts(tables)
        if self._publish is not None:
            self._publish(self._hosts)

    async def run(self, publish: Publish) -> None:
        """Publish the hosts, now and in each `replace`, until cancelled."""
        self._publish = publish
        publish(self._hosts)
        await anyio.sleep_forever()


def _hosts(tables: Iterable[HostSettings]) -> frozenset[Host]:
    return frozenset(
        Host(
            identity=f"{StaticHosts.name}:{table.name}",
            name=table.name,
            address=table.address,
            source=StaticHosts.name,
            hardware=table.hardware,
            experiment=table.experiment,
            cents_per_hour=table.cents_per_hour,
        )
        for table in tables
    )
