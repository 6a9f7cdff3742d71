"""The providers of the settings, and how each follows a reload."""

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
    """All providers; one that is not enabled has no hosts."""

    def __init__(self, settings: Settings) -> None:
        self._static = StaticHosts(settings.hosts)
        self._targets = TargetsFiles(settings.targets)
        self._cloud = LambdaCloudHosts(settings.lambda_cloud)

    @property
    def all(self) -> tuple[StaticHosts, TargetsFiles, LambdaCloudHosts]:
        """Each provider, in the order of precedence: the operator's own tables come first."""
        return self._static, self._targets, self._cloud

    @property
    def hosts(self) -> frozenset[Host]:
        """The hosts that are known now, for a caller that does not `run` the providers."""
        return merged(*(provider.hosts for provider in self.all))

    async def ask(self, names: Iterable[str] = ()) -> tuple[Retry, ...]:
        """Query the providers once, for all hosts or for `names`; return the failures.

        A later provider is queried only where the earlier ones do not have all names.
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
        """Apply these settings from now on."""
        self._static.replace(settings.hosts)
        self._targets.replace(settings.targets)
        self._cloud.replace(settings.lambda_cloud)


def placed(host: Host, settings: Settings) -> Host:
    """Return the host with the file system of its trees, determined by its configured roots."""
    if host.storage or not host.mounts:
        return host
    storage = storage_of(
        host.mounts, settings.remote_for(host).roots, host.user or settings.ssh_for(host).user or DEFAULT_USER
    )
    return replace(host, storage=storage)
