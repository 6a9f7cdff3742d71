"""Merge the newest full sets of several providers into one, by identity.

Where two providers have the same identity, or a host of the same name and address, the earlier provider has precedence.
A name belongs to one host: a later host's name is extended by a part of its identity until the name is unique. A
provider without a set yet counts as empty, so a caller that relies on absence waits for `wait_complete` first.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from functools import partial

import anyio
from msgspec.structs import replace

from harvestd.bulkhead import Bulkhead
from harvestd.inventory.host import Host, Provider, Publish

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
