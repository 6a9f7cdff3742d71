"""Follows the inventory: logs its changes, and runs one supervisor for each host, independent of the others.

A name or an endpoint belongs to the last host that had it; a new host may take either. Only the inventory counts here:
whether a host can be reached is up to its supervisor.

If the connection parameters or the trees of a host change, only this host is restarted; the new supervisor begins when
the old one has ended, so that no host ever has two.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from importlib import import_module
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from harvestd.catalogue.entries import GONE, HostRecord
from harvestd.convention.metadata.models import hardware_of_instance_type
from harvestd.convention.structs import Immutable
from harvestd.errors import DiskFull
from harvestd.harvest.context import Context
from harvestd.harvest.fleet.supervisor import HostSupervisor
from harvestd.harvest.metrics import FleetMetrics
from harvestd.harvest.sync import Broadcast
from harvestd.harvest.verdict.requests import Verdicts
from harvestd.inventory.host import Host
from harvestd.inventory.providers import Inventory, Providers, placed
from harvestd.remote.api import WatchList
from harvestd.remote.ssh.target import Target
from harvestd.settings import Settings
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_REMEMBERED = 1_000
"""Names, and endpoints, of hosts that are gone."""

T = TypeVar("T")


class ReachableHost(Immutable):
    """A host, and how it is reached."""

    host: Host
    target: Target

    @property
    def endpoint(self) -> tuple[str, int, str]:
        """The endpoint, which no two hosts have at the same time."""
        return self.target.address, self.target.port, self.target.proxy_jump


@dataclass
class HostChanges:
    """Keeps the last inventory, and the last holders of names and endpoints."""

    _last: Mapping[str, ReachableHost] = field(default_factory=dict)
    """The last inventory, by identity."""
    named: dict[str, str] = field(default_factory=dict)
    """The identity that last had each name; the most recent one last."""
    placed: dict[tuple[str, int, str], str] = field(default_factory=dict)
    """The identity that last had each endpoint, in the same order."""

    def apply(self, hosts: Mapping[str, ReachableHost]) -> list[Host]:
        """Process all present hosts, by identity; return those that disappeared since the last call."""
        gone = [each.host for identity, each in self._last.items() if identity not in hosts]
        for host in gone:
            get_logger().info(Event.HOST_GONE, host=host.name, address=host.address, source=host.source)
        for identity, each in hosts.items():
            before = self.named.get(each.host.name, identity)
            if before == identity and identity not in self._last:
                _log_appeared(each.host)
            old = before if before != identity else self._left(each, hosts)
            if old is not None:
                _log_replaced(each.host, old)
        for identity, each in hosts.items():
            _hold(self.named, each.host.name, identity)
            holder = hosts.get(self.placed.get(each.endpoint, ""))
            if holder is None or holder.endpoint != each.endpoint:
                _hold(self.placed, each.endpoint, identity)
        most = max(_REMEMBERED, 2 * len(hosts))
        _forget(self.named, most)
        _forget(self.placed, most)
        self._last = hosts
        return gone

    def is_last(self, host: Host) -> bool:
        """Return whether a host that is gone was the last of its name."""
        return self.named.get(host.name) == host.identity and host.identity not in self._last

    def _left(self, new: ReachableHost, hosts: Mapping[str, ReachableHost]) -> str | None:
        """Return the identity that left its endpoint to a host that is new there."""
        old = self.placed.get(new.endpoint)
        if old is None or old in hosts or (new.host.identity in self._last and old not in self._last):
            return None
        return old


def _hold(held: dict[T, str], key: T, identity: str) -> None:
    held.pop(key, None)
    held[key] = identity


def _forget(held: dict[T, str], most: int) -> None:
    while len(held) > most:
        del held[next(iter(held))]


def _log_appeared(host: Host) -> None:
    get_logger().info(
        Event.HOST_APPEARED,
        host=host.name,
        address=host.address,
        source=host.source,
        hardware=host.hardware or hardware_of_instance_type(host.instance_type or ""),
    )


def _log_replaced(host: Host, old: str) -> None:
    get_logger().info(
        Event.HOST_REPLACED, host=host.name, address=host.address, source=host.source, identity=host.identity, old=old
    )


_WATCHING = ("harvestd.harvest.host.loop", "harvestd.harvest.verdict.service")
_FIRST_SETS = 5.0
"""Seconds to wait for the providers' first lists of hosts before the daemon reports that it is ready."""
_RECORD_EVERY = 30.0
"""Seconds between two records of the times of the last successes."""


@dataclass(frozen=True)
class _WatchSpec:
    """Everything that is fixed during a connection; if any of it changes, the host's supervisor is restarted."""

    host: Host = field(compare=False)
    """As it was when the supervisor started; later changes are in `Context.present`."""
    storage: str
    target: Target
    watch_list: WatchList


@dataclass(frozen=True)
class _Watch:
    spec: _WatchSpec
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)


class Fleet:
    """Follows the inventory: starts supervisors of new hosts, and stops those of removed ones."""

    def __init__(
        self,
        context: Context,
        root: DataRoot,
        scan_now: Broadcast,
        tally: FleetMetrics,
        only: frozenset[str] | None = None,
    ) -> None:
        """`only`: the names of the hosts that are watched; None: all."""
        self._context = context
        self._root = root
        self._scan_now = scan_now
        self._tally = tally
        self._only = only
        self._providers = Providers(context.settings)
        self._inventory = Inventory(self._providers.all, self._take, context.service_failures)
        self.watching: dict[str, _Watch] = {}
        """By identity; a supervisor that is being stopped stays here until it has ended."""
        self._changed = Broadcast()
        self._hosts: frozenset[Host] = frozenset()
        self._changes = HostChanges()

    @property
    def size(self) -> int:
        """The number of hosts."""
        return len(self._hosts)

    async def run(self, *, task_status: TaskStatus[None]) -> None:
        """Watch until cancelled. Raise what concerns all hosts (`HaltedForSafety`).

        Counts as started when hosts are being watched.
        """
        self._context.fleet.follows = True
        # Only needed for watching; the event loop must not wait for the import when the first host is connected.
        await anyio.to_thread.run_sync(_import_watching)
        keep_running = self._context.service_failures.keep_running
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(keep_running, "inventory", self._inventory.run)
            tasks.start_soon(keep_running, "fleet", partial(self._keep_following, tasks))
            tasks.start_soon(keep_running, "sleep detection", self._context.links.waking.run)
            tasks.start_soon(keep_running, "requests", self._attend)
            tasks.start_soon(keep_running, "verdicts", Verdicts(self._context, self._host_of).run)
            tasks.start_soon(keep_running, "host records", self._record_absent)
            tasks.start_soon(keep_running, "last successes", self._record_successes)
            tasks.start_soon(keep_running, "experiment directories", self._check_directories)
            with anyio.move_on_after(_FIRST_SETS):
                await self._inventory.wait_complete()
            with self._context.service_failures.containing("fleet"):
                self._follow(tasks)
            task_status.started()

    async def _attend(self) -> None:
        await self._context.catalogue_opened.wait()
        await self._context.requests.run(self._scan_now)

    async def _record_successes(self) -> None:
        """Record from time to time when each connected host was last read completely, all in one transaction."""
        await self._context.catalogue_opened.wait()
        while True:
            await anyio.sleep(_RECORD_EVERY)
            tallies = ((name, self._tally.of(name)) for name in self._tally.connected)
            times = {name: each.last_success.timestamp() for name, each in tallies if each.last_success is not None}
            with suppress(DiskFull):  # the transfers report the lack of room
                await self._context.catalogue.hosts.save_last_successes(times)

    async def _check_directories(self) -> None:
        """Detect in each interval what the operator did to experiment directories, also if nothing changes on hosts."""
        await self._context.catalogue_opened.wait()
        while True:
            await anyio.sleep(self._context.settings.poll.interval.total_seconds())
            await self._context.check_directories()

    async def _keep_following(self, tasks: TaskGroup) -> None:
        while True:
            self._follow(tasks)
            await self._changed.rung()

    def adopt(self, settings: Settings) -> None:
        """Apply new settings: only hosts with changed connection parameters or trees are restarted.

        All others use them from their next scan on, which is requested now.
        """
        self._context.adopt(settings)
        self._providers.adopt(settings)
        self._changed.ring()
        self._scan_now.ring()

    def _take(self, hosts: frozenset[Host]) -> None:
        self._hosts = frozenset(host for host in hosts if self._only is None or host.name in self._only)
        self._context.fleet.known = len(self._hosts)
        self._context.fleet.present = {host.identity: host for host in hosts}
        # A provider without an answer yet may list the other hosts: until then no host counts as gone.
        self._context.fleet.hosts = _names_and_identities(hosts) if self._inventory.is_complete else None
        self._tally.keep({host.name for host in hosts})
        self._context.fleet.ending = _names_and_identities(host for host in hosts if host.ending)
        known = self._context.catalogue.knowledge if self._context.catalogue_opened.is_set() else None
        if self._context.fleet.rescue.take(hosts, known):
            self._scan_now.ring()
        self._changed.ring()

    def _host_of(self, identity: str) -> Host | None:
        """Return the present record of a host that is being watched: its price may have changed."""
        return self._context.fleet.present.get(identity) if identity in self.watching else None

    def _follow(self, tasks: TaskGroup) -> None:
        wanted: dict[str, _WatchSpec] = {}
        for host in sorted(self._hosts, key=lambda each: each.name):
            # Invalid settings of one host do not affect others; the host is watched as before, if it was.
            if host.identity in self.watching:
                wanted[host.identity] = self.watching[host.identity].spec
            with self._context.host_failures.containing(host.name):
                wanted[host.identity] = self._watch_spec(host)
        for identity, watch in self.watching.items():
            if watch.spec != wanted.get(identity):
                watch.scope.cancel()
        for gone in self._changes.apply(
            {identity: ReachableHost(spec.host, spec.target) for identity, spec in wanted.items()}
        ):
            tasks.start_soon(self._record_gone, gone)
        for identity, spec in wanted.items():
            if identity not in self.watching:
                self.watching[identity] = watch = _Watch(spec)
                tasks.start_soon(self._watch, watch)

    async def _record_gone(self, host: Host) -> None:
        """Record that a host is gone, as soon as there is room for the record."""
        await self._context.catalogue_opened.wait()
        await self._context.service_failures.keep_running("host records", partial(self._save_gone, host))

    async def _record_absent(self) -> None:
        """Record the hosts that left the inventory while no daemon ran, once every provider has answered."""
        await self._inventory.wait_complete()
        await self._context.catalogue_opened.wait()
        await self._context.catalogue.hosts.record_absent({host.name for host in self._context.fleet.present.values()})

    async def _save_gone(self, host: Host) -> None:
        if self._changes.is_last(host):
            record = HostRecord(host.name, host.identity, host.address, state=GONE)
            await self._context.catalogue.hosts.save(record)

    def _watch_spec(self, host: Host) -> _WatchSpec:
        host = placed(host, self._context.settings)
        context = self._context
        return _WatchSpec(host, context.storage_of(host), context.target_of(host), context.watch_list_of(host))

    async def _watch(self, watch: _Watch) -> None:
        host = watch.spec.host
        try:
            with watch.scope:
                await HostSupervisor(host, self._context, self._root, self._scan_now, self._tally).run()
        finally:
            del self.watching[host.identity]
            self._context.states.of(host.identity).is_unreached = False
            self._context.states.of(host.identity).unreadable = None
            self._changed.ring()
        if host.identity not in self._context.fleet.present:
            with self._context.host_failures.containing(host.name):
                self._context.states.drop(host.identity)
                if self._context.catalogue_opened.is_set():
                    catalogue = self._context.catalogue
                    async with catalogue.files.loaded(()) as lease:
                        await lease.evaluated(partial(self._context.fleet.rescue.gone, host, catalogue.knowledge))
                    self._context.signals.alarming.ring()


def _names_and_identities(hosts: Iterable[Host]) -> frozenset[str]:
    return frozenset(each for host in hosts for each in (host.name, host.identity))


def _import_watching() -> None:
    for module in _WATCHING:
        import_module(module)
