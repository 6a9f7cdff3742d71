"""Providers of hosts and their merge: which hosts exist now, by every inventory.

Merge the newest full sets of several providers into one, by identity. Where two providers have the same identity, or
a host of the same name and address, the earlier provider has precedence. A name belongs to one host: a later host's
name is extended by a part of its identity until the name is unique. A provider without a set yet counts as empty, so
a caller that relies on absence waits for `wait_complete` first.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from functools import partial

import anyio
from msgspec.structs import replace

from harvestd.bulkhead import Bulkhead
from harvestd.errors import Retry
from harvestd.inventory.file_sd import TargetsFiles
from harvestd.inventory.host import Host, Provider, Publish, storage_of
from harvestd.inventory.lambda_provider import LambdaCloudHosts
from harvestd.settings import DEFAULT_USER, HostSettings, Settings

_SHORT = 8
"""Characters of an identity that distinguish hosts of one name."""
_LONGEST = 63
"""Characters of a name at most."""


class Inventory:
    """Runs `providers` and passes the full set of hosts to `changed` whenever it changed, or became complete."""

    def __init__(self, providers: Sequence[Provider], changed: Publish, failures: Bulkhead | None = None) -> None:
        """Store the providers.

        `failures` contains their unexpected exceptions; None: they are logged and not counted.
        """
        names = [provider.name for provider in providers]
        if len(set(names)) != len(names):
            raise ValueError("two providers share a name")
        self._providers = tuple(providers)
        self._changed = changed
        self._failures = failures or Bulkhead()
        self._sets: dict[str, frozenset[Host]] = {}
        self._complete = anyio.Event()
        self._hosts: frozenset[Host] | None = None
        self._holders: dict[str, str] = {}
        """The identity that holds each name."""

    @property
    def hosts(self) -> frozenset[Host]:
        """The hosts that are known now."""
        return self._hosts or frozenset()

    @property
    def is_complete(self) -> bool:
        """Whether every provider has published a set, so that a host in no set is gone."""
        return self._complete.is_set()

    async def run(self) -> None:
        """Run all providers until cancelled. A failed one keeps its last set, and is run again after a pause."""
        async with anyio.create_task_group() as group:
            for provider in self._providers:
                name = f"provider {provider.name}"
                run = partial(provider.run, partial(self._take, provider.name))
                group.start_soon(self._failures.keep_running, name, run, name=name)
            await anyio.sleep_forever()

    async def wait_complete(self) -> None:
        """Wait until every provider has published once; the deadline is the caller's."""
        if self._providers:
            await self._complete.wait()

    def _take(self, provider: str, hosts: frozenset[Host]) -> None:
        self._sets[provider] = hosts
        by_name = _merge((self._sets.get(each.name, ()) for each in self._providers), self._holders)
        self._holders = {name: host.identity for name, host in by_name.items()}
        hosts = frozenset(by_name.values())
        completes = not self.is_complete and len(self._sets) == len(self._providers)
        if completes:
            self._complete.set()
        if hosts != self._hosts or completes:
            self._hosts = hosts
            self._changed(hosts)


def merged(*sets: frozenset[Host]) -> frozenset[Host]:
    """Return the merge of full sets of providers; earlier sets have precedence."""
    return frozenset(_merge(sets, {}).values())


def _merge(sets: Iterable[Iterable[Host]], holders: Mapping[str, str]) -> dict[str, Host]:
    """Return the hosts by name; an identity in `holders` keeps its name before others of its provider."""
    by_name: dict[str, Host] = {}
    for hosts in sets:
        before = list(by_name.values())
        identities = {each.identity for each in before}
        places = {(each.name, each.address) for each in before}
        for host in sorted(hosts, key=lambda each: (holders.get(each.name) != each.identity, repr(each))):
            if host.identity not in identities and (host.name, host.address) not in places:
                identities.add(host.identity)
                name = _free_name(host, by_name)
                by_name[name] = host if name == host.name else replace(host, name=name)
    return by_name


def _free_name(host: Host, taken: Container[str]) -> str:
    """Return the host's name, or one with enough of its identity to be unique."""
    if host.name not in taken:
        return host.name
    own = host.identity.rpartition(":")[2]
    names = (f"{host.name[: _LONGEST - length - 1]}-{own[:length]}" for length in range(_SHORT, _LONGEST - 1))
    return next((name for name in names if name not in taken), own)


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

    async def query(self, names: Iterable[str] = ()) -> tuple[Retry, ...]:
        """Query the providers once, for all hosts or for `names`; return the failures.

        A later provider is queried only where the earlier ones do not have all names.
        """
        failures: list[Retry] = []
        wanted = set(names)
        for provider in (self._targets, self._cloud):
            if wanted and wanted <= {host.name for host in self.hosts}:
                break
            try:
                await provider.query()
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
