"""All hosts at once: one watcher each, as the inventory says. One that fails or leaves disturbs none of the others.

A host that is to be reached or looked at differently is watched anew, alone; the new watcher begins when the old one
has ended, so that no host ever has two.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from harvestd.catalogue.entries import GONE, HostRecord
from harvestd.harvest.context import House
from harvestd.harvest.fleet.changes import Present, Roll
from harvestd.harvest.fleet.metrics import Tally
from harvestd.harvest.fleet.supervisor import Watcher
from harvestd.harvest.sync import Bell
from harvestd.harvest.verdict.requests import Verdicts
from harvestd.inventory.host import Host
from harvestd.inventory.merge import Inventory
from harvestd.inventory.providers import Providers, placed
from harvestd.remote.api import WatchList
from harvestd.remote.ssh.target import Target
from harvestd.settings import Settings
from harvestd.store.root import DataRoot

_WATCHING = ("harvestd.harvest.host.loop", "harvestd.harvest.verdict.on_demand")
_FIRST_SETS = 5.0
"""Seconds for providers to say which hosts there are before we call ourselves ready without."""


@dataclass(frozen=True)
class _Way:
    """All that is fixed for the life of a connection: where it differs, the host is watched anew."""

    host: Host = field(compare=False)
    """As it was known when the watch began; what else changes of it, `House.present` says."""
    storage: str
    target: Target
    watch_list: WatchList


@dataclass(frozen=True)
class _Watch:
    way: _Way
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Fleet:
    """Follows the inventory: a host that appears is watched, one that leaves is not any more."""

    def __init__(
        self, house: House, root: DataRoot, scan_now: Bell, tally: Tally, only: frozenset[str] | None = None
    ) -> None:
        """`only`: the names of the hosts that are watched; None: all."""
        self._house = house
        self._root = root
        self._scan_now = scan_now
        self._tally = tally
        self._only = only
        self._providers = Providers(house.settings)
        self._inventory = Inventory(self._providers.all, self._take, house.service_failures)
        self._watching: dict[str, _Watch] = {}
        """By identity; one that was told to end stays until it has."""
        self._changed = Bell()
        self._hosts: frozenset[Host] = frozenset()
        self._roll = Roll()

    @property
    def size(self) -> int:
        """How many hosts there are."""
        return len(self._hosts)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Watch until cancelled; raises what concerns all hosts (`HaltedForSafety`).

        It counts as started when hosts are being watched.
        """
        self._house.follows = True
        # What only who watches needs; the loop is not to wait for it when the first host is connected.
        await anyio.to_thread.run_sync(_import_watching)
        keep_running = self._house.service_failures.keep_running
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_running, "inventory", self._inventory.run)
            tasks.start_soon(keep_running, "fleet", partial(self._keep_following, tasks))
            tasks.start_soon(keep_running, "sleep detection", self._house.waking.run)
            tasks.start_soon(keep_running, "requests", self._attend)
            tasks.start_soon(keep_running, "verdicts", Verdicts(self._house, self._host_of).run)
            tasks.start_soon(keep_running, "host records", self._record_absent)
            with anyio.move_on_after(_FIRST_SETS):
                await self._inventory.wait_complete()
            with self._house.service_failures.containing("fleet"):
                self._follow(tasks)
            task_status.started()

    async def _attend(self) -> None:
        await self._house.knows.wait()
        await self._house.attending.run(self._scan_now)

    async def _keep_following(self, tasks: TaskGroup) -> None:
        while True:
            self._follow(tasks)
            await self._changed.rung()

    def adopt(self, settings: Settings) -> None:
        """Work by these settings from now on: nothing is restarted but hosts that are reached or looked at differently.

        All others go by them from their next look, which is now.
        """
        self._house.adopt(settings)
        self._providers.adopt(settings)
        self._changed.ring()
        self._scan_now.ring()

    def _take(self, hosts: frozenset[Host]) -> None:
        self._hosts = frozenset(host for host in hosts if self._only is None or host.name in self._only)
        self._house.known = len(self._hosts)
        self._house.present = {host.identity: host for host in hosts}
        # A provider that can't speak yet may know the rest: until then nobody is taken for gone.
        self._house.hosts = _names_and_identities(hosts) if self._inventory.is_complete else None
        self._tally.keep({host.name for host in hosts})
        self._house.ending = _names_and_identities(host for host in hosts if host.ending)
        known = self._house.catalogue.knowledge if self._house.knows.is_set() else None
        if self._house.rescue.take(hosts, known):
            self._scan_now.ring()
        self._changed.ring()

    def _host_of(self, identity: str) -> Host | None:
        """Return a host that is being watched, as it is known now: its price may have changed."""
        return self._house.present.get(identity) if identity in self._watching else None

    def _follow(self, tasks: TaskGroup) -> None:
        wanted: dict[str, _Way] = {}
        for host in sorted(self._hosts, key=lambda each: each.name):
            # A host whose settings can't be made out takes no other one with it; it is watched as before, if it was.
            if host.identity in self._watching:
                wanted[host.identity] = self._watching[host.identity].way
            with self._house.host_failures.containing(host.name):
                wanted[host.identity] = self._way(host)
        for identity, watch in self._watching.items():
            if watch.way != wanted.get(identity):
                watch.scope.cancel()
        for gone in self._roll.call({identity: Present(way.host, way.target) for identity, way in wanted.items()}):
            tasks.start_soon(self._record_gone, gone)
        for identity, way in wanted.items():
            if identity not in self._watching:
                self._watching[identity] = watch = _Watch(way)
                tasks.start_soon(self._watch, watch)

    async def _record_gone(self, host: Host) -> None:
        """Record that a host is gone, as soon as there is room for the record."""
        await self._house.knows.wait()
        await self._house.service_failures.keep_running("host records", partial(self._save_gone, host))

    async def _record_absent(self) -> None:
        """Record the hosts that left the inventory while no daemon ran, once every provider has answered."""
        await self._inventory.wait_complete()
        await self._house.knows.wait()
        await self._house.catalogue.record_absent_hosts({host.name for host in self._house.present.values()})

    async def _save_gone(self, host: Host) -> None:
        if self._roll.is_last(host):
            record = HostRecord(host.name, host.identity, host.address, state=GONE)
            await self._house.catalogue.save_host(record)

    def _way(self, host: Host) -> _Way:
        host = placed(host, self._house.settings)
        house = self._house
        return _Way(host, house.storage_of(host), house.target_of(host), house.watch_list_of(host))

    async def _watch(self, watch: _Watch) -> None:
        host = watch.way.host
        try:
            with watch.scope:
                await Watcher(host, self._house, self._root, self._scan_now, self._tally).run()
        finally:
            del self._watching[host.identity]
            self._house.unreached.discard(host.identity)
            self._house.unreadable.pop(host.identity, None)
            self._changed.ring()
        if host.identity not in self._house.present:
            with self._house.host_failures.containing(host.name):
                self._house.verdicts.pop(host.identity, None)
                if self._house.knows.is_set():
                    self._house.rescue.gone(host, self._house.catalogue.knowledge)


def _names_and_identities(hosts: Iterable[Host]) -> frozenset[str]:
    return frozenset(each for host in hosts for each in (host.name, host.identity))


def _import_watching() -> None:
    for module in _WATCHING:
        import_module(module)
