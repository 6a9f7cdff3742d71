"""Several providers' sets as one: the newest full set of each, by identity.

Where two providers name the same identity, the one that was given first is believed. A provider that has said nothing
yet counts as empty, so a caller that takes absence for a fact waits for `wait_complete` first.
"""

from collections.abc import Sequence
from functools import partial

import anyio

from harvestd.inventory.provider import Host, Provider, Publish


class Inventory:
    """Runs `providers` and gives the full set of hosts to `changed` whenever it is another one."""

    def __init__(self, providers: Sequence[Provider], changed: Publish) -> None:
        names = [provider.name for provider in providers]
        if len(set(names)) != len(names):
            raise ValueError("two providers share a name")
        self._providers = tuple(providers)
        self._changed = changed
        self._sets: dict[str, frozenset[Host]] = {}
        self._complete = anyio.Event()
        self._hosts: frozenset[Host] | None = None

    @property
    def hosts(self) -> frozenset[Host]:
        """The hosts that are known now."""
        return self._hosts or frozenset()

    async def run(self) -> None:
        """Run all providers until cancelled; what one raises ends them all."""
        async with anyio.create_task_group() as group:
            for provider in self._providers:
                group.start_soon(provider.run, partial(self._take, provider.name), name=f"provider {provider.name}")
            await anyio.sleep_forever()

    async def wait_complete(self) -> None:
        """Wait until every provider has spoken once; the deadline is the caller's."""
        if self._providers:
            await self._complete.wait()

    def _take(self, provider: str, hosts: frozenset[Host]) -> None:
        self._sets[provider] = hosts
        merged = self._merged()
        if merged != self._hosts:
            self._hosts = merged
            self._changed(merged)
        if len(self._sets) == len(self._providers):
            self._complete.set()

    def _merged(self) -> frozenset[Host]:
        by_identity: dict[str, Host] = {}
        for provider in self._providers:
            # Sorted, so that a provider which names an identity twice gives the same set each time.
            for host in sorted(self._sets.get(provider.name, ()), key=repr):
                by_identity.setdefault(host.identity, host)
        return frozenset(by_identity.values())
