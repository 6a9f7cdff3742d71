"""The providers that the settings ask for, and how each follows a reload."""

from collections.abc import Iterable

from msgspec.structs import replace

from harvestd.errors import Retry
from harvestd.inventory.file_sd_watch import TargetsFiles
from harvestd.inventory.host import Host
from harvestd.inventory.lambda_cloud.mounts import storage_of
from harvestd.inventory.lambda_cloud.provider import LambdaCloudHosts
from harvestd.inventory.merge import merged
from harvestd.inventory.static import StaticHosts
from harvestd.settings import DEFAULT_USER, Settings


class Providers:
    """All of them; one that is not enabled knows no hosts."""

    def __init__(self, settings: Settings) -> None:
        self._static = StaticHosts(settings.hosts)
        self._targets = TargetsFiles(settings.targets)
        self._cloud = LambdaCloudHosts(settings.lambda_cloud)

    @property
    def all(self) -> tuple[StaticHosts, TargetsFiles, LambdaCloudHosts]:
        """Each provider, in the order in which they are believed: what the operator wrote down goes first."""
        return self._static, self._targets, self._cloud

    @property
    def hosts(self) -> frozenset[Host]:
        """The hosts that are known now, for who does not `run` the providers."""
        return merged(*(provider.hosts for provider in self.all))

    async def ask(self, names: Iterable[str] = ()) -> tuple[Retry, ...]:
        """Learn once which hosts there are, or hosts by these names; gives why that can't be had of some providers.

        Whoever is believed later is asked only where those before do not know all names.
        """
        failures: list[Retry] = []
        wanted = set(names)
        for provider in (self._targets, self._cloud):
            if wanted and wanted <= {host.name for host in self.hosts}:
                break
            try:
                await provider.ask()
            except Retry as e:
                failures.append(e)
        return tuple(failures)

    def adopt(self, settings: Settings) -> None:
        """Go by these settings from now on."""
        self._static.replace(settings.hosts)
        self._targets.replace(settings.targets)
        self._cloud.replace(settings.lambda_cloud)


def placed(host: Host, settings: Settings) -> Host:
    """Return the host with what its trees lie on, by the roots that are looked at there."""
    if host.storage or not host.mounts:
        return host
    storage = storage_of(
        host.mounts, settings.remote_for(host).roots, host.user or settings.ssh_for(host).user or DEFAULT_USER
    )
    return replace(host, storage=storage)
