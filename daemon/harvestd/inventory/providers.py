"""The providers that the settings ask for, and how each follows a reload."""

from dataclasses import replace

from harvestd.inventory.lambda_cloud import LambdaCloudHosts
from harvestd.inventory.merge import merged
from harvestd.inventory.mounts import storage_of
from harvestd.inventory.provider import Host, Provider
from harvestd.inventory.static import StaticHosts
from harvestd.settings import Settings


class Providers:
    """All of them; one that is not enabled knows no hosts."""

    def __init__(self, settings: Settings) -> None:
        self._static = StaticHosts(settings.hosts)
        self._cloud = LambdaCloudHosts(settings.lambda_cloud)

    @property
    def all(self) -> tuple[Provider, ...]:
        """Each provider, in the order in which they are believed: what the operator wrote down goes first."""
        return self._static, self._cloud

    @property
    def hosts(self) -> frozenset[Host]:
        """The hosts that are known now, for who does not `run` the providers."""
        return merged(self._static.hosts, self._cloud.hosts)

    async def ask(self) -> None:
        """Learn once which hosts there are; raises `Retry` where that can't be had."""
        await self._cloud.ask()

    def adopt(self, settings: Settings) -> None:
        """Go by these settings from now on."""
        self._static.replace(settings.hosts)
        self._cloud.replace(settings.lambda_cloud)


def placed(host: Host, settings: Settings) -> Host:
    """Give the host with what its trees lie on, by the roots that are looked at there."""
    if host.storage or not host.mounts:
        return host
    storage = storage_of(host.mounts, settings.remote_for(host).roots, settings.ssh_for(host).user)
    return replace(host, storage=storage)
