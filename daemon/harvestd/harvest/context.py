"""The context of all host tasks: settings, store, catalogue, budgets. The service creates it once.

A reload replaces the settings: read them from the context at each scan, and keep no copy.
"""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio

from harvestd.bulkhead import Bulkhead
from harvestd.convention.eval_names import DATASETS
from harvestd.convention.kinds import PRUNED_DIRECTORIES
from harvestd.convention.metadata.naming import NamingContext, NamingRule
from harvestd.convention.metadata.progress import StepRate
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.convention.scan.snapshot import Tree, TreeKind
from harvestd.convention.scan.stability import NO_TIME
from harvestd.harvest.budgets import BATCHES, Bandwidth, Descriptors, DiskSpace, MemoryBudget
from harvestd.harvest.change_feed import ChangeFeed
from harvestd.harvest.fleet.interruptions import SuspendDetector
from harvestd.harvest.metrics import NullListener, ProgressListener
from harvestd.harvest.requests import RequestTracker
from harvestd.harvest.state import FleetState, HostStates, StartGate
from harvestd.harvest.sync import Broadcast, DirectoryLock, Leases
from harvestd.harvest.transfer.pool import ActiveTransfers
from harvestd.inventory.host import Host
from harvestd.remote.api import Limits, WatchList
from harvestd.remote.ssh.connection import CONTROL_WINDOW, Hops
from harvestd.remote.ssh.target import Target
from harvestd.settings import DEFAULT_USER, Settings, default_identity_files
from harvestd.telemetry.events import Event
from harvestd.telemetry.service_manager import Deadlines

_LEAST_WINDOW = 64 * 1024
_BULK_HOPS = 4
"""Connections to one jump host for large files."""


if TYPE_CHECKING:
    from harvestd.catalogue.entries import Intent
    from harvestd.catalogue.repository import Catalogue
    from harvestd.harvest.experiments.directories import ExperimentDirectories
    from harvestd.report.small_files import Evals


def limits_of(settings: Settings) -> Limits:
    """Return the time limits for a host's answers; existing connections keep those that they were made with."""
    limits = settings.limits
    return Limits(scan_time=limits.scan_time, inspect_time=limits.inspect_time, answer_time=limits.answer_time)


@dataclass
class Budgets:
    """What all hosts share, and how much of it each may use."""

    connecting: anyio.CapacityLimiter
    """Limits how many hosts are being logged in to at a time."""
    reconnecting: anyio.CapacityLimiter
    """The same, for hosts that could not be reached the last time."""
    memory: MemoryBudget
    """For small files and growing logs."""
    bulk: MemoryBudget
    """For the connections of large files."""
    bandwidth: Bandwidth
    room: DiskSpace
    storing: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(BATCHES))
    """Limits the batches that are written at a time.

    Each has its files open, and more threads would only wait for each other.
    """
    descriptors: Descriptors = field(default_factory=Descriptors)
    """The process's file descriptors; `startup.open` raises their limit."""
    beginning: StartGate = field(default_factory=StartGate)
    """Limits how many hosts are scanned for the first time at once."""

    @classmethod
    def of(cls, settings: Settings) -> "Budgets":
        """Return the budgets for validated settings."""
        limits = settings.limits
        return cls(
            connecting=anyio.CapacityLimiter(limits.connecting),
            reconnecting=anyio.CapacityLimiter(_reconnecting(settings)),
            memory=MemoryBudget(limits.memory // 4),
            bulk=MemoryBudget(limits.memory // 2),
            bandwidth=Bandwidth(limits.bandwidth),
            room=DiskSpace(limits.free_space),
        )

    def adopt(self, settings: Settings) -> None:
        """Apply new settings."""
        limits = settings.limits
        self.connecting.total_tokens = limits.connecting
        self.reconnecting.total_tokens = _reconnecting(settings)
        self.memory.resize(limits.memory // 4)
        self.bulk.resize(limits.memory // 2)
        self.bandwidth.resize(limits.bandwidth)
        self.room.resize(limits.free_space)


@dataclass
class Links:
    """What the connections of all hosts share."""

    hops: Hops = field(default_factory=Hops)
    """Connections to jump hosts, shared by all hosts behind one."""
    bulk_hops: Hops = field(default_factory=lambda: Hops(_BULK_HOPS))
    """More such connections for large files, so that a jump host is not limited to the speed of one connection."""
    waking: SuspendDetector = field(default_factory=SuspendDetector)
    """Interrupts tasks that rely on a link after the workstation was suspended, while it is being run."""
    new_pins: dict[str, str] = field(default_factory=dict)
    """Host keys to record, by identity, of the hosts that were logged in to before the catalogue was open."""


@dataclass
class Signals:
    """What wakes the tasks that wait for something to happen at any host."""

    scanned: Broadcast = field(default_factory=Broadcast)
    """Rung after each scan of a host."""
    idle: Broadcast = field(default_factory=Broadcast)
    """Rung when everything that a host showed is here.

    A good moment for work that can wait, while the host is scanned again.
    """
    scan_now: Broadcast = field(default_factory=Broadcast)
    """Rung when the operator requests a scan of all hosts: lost hosts are tried again at once."""
    alarming: Broadcast = field(default_factory=Broadcast)
    """Rung when something happened that a person should learn of at once."""


@dataclass
class Context:
    """The services that all hosts share, and what is known of the hosts now."""

    settings: Settings
    budgets: Budgets
    selection: Selection
    monitor: ProgressListener = field(default_factory=NullListener)
    host_failures: Bulkhead = field(default_factory=lambda: Bulkhead(Event.HOST_FAILED))
    """Contains the unexpected exceptions of one host's work."""
    service_failures: Bulkhead = field(default_factory=Bulkhead)
    """Contains the unexpected exceptions of the services that run beside the hosts."""
    limits: Limits = field(default_factory=Limits)
    states: HostStates = field(default_factory=HostStates)
    """What is known of each host now."""
    fleet: FleetState = field(default_factory=FleetState)
    """What is known of the hosts together."""
    links: Links = field(default_factory=Links)
    changes: ChangeFeed = field(default_factory=ChangeFeed)
    leases: Leases = field(default_factory=Leases)
    """The lease of each storage: the host that it is fetched from."""
    indexing: anyio.Lock = field(default_factory=anyio.Lock)
    """Held while runs are assigned to experiments; never during a wait for the network."""
    signals: Signals = field(default_factory=Signals)
    step_rates: dict[tuple[str, str], StepRate] = field(default_factory=dict)
    """The step rate of each run whose log was read, by run key; kept over connections."""
    catalogue_opened: anyio.Event = field(default_factory=anyio.Event)
    """Set once the catalogue is open. Hosts are connected meanwhile; nothing else uses the catalogue before."""
    catalogue: "Catalogue" = field(init=False)
    evals: "Evals" = field(init=False)
    """The results of the newest evals, for reports; set together with the catalogue."""
    requests: RequestTracker = field(default_factory=RequestTracker)
    """Tracks the requests that people make."""
    transfers: ActiveTransfers = field(default_factory=ActiveTransfers)
    """The large files that are being fetched."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    """The deadline of each host's task."""
    unsettled_intents: "list[Intent]" = field(default_factory=list)
    """Intents whose publishing failed; they are settled before anything else is published."""
    directory_lock: DirectoryLock = field(default_factory=DirectoryLock)
    """Keeps directories from being moved while files are published into them."""
    directories: "ExperimentDirectories | None" = None
    """Detects what the operator does to experiment directories; None without a data root."""

    @classmethod
    def of(cls, settings: Settings, monitor: ProgressListener) -> "Context":
        """Return a context for validated settings; `open_catalogue` completes it."""
        return cls(
            settings=settings,
            budgets=Budgets.of(settings),
            selection=selection_of(settings),
            monitor=monitor,
            host_failures=Bulkhead(Event.HOST_FAILED, monitor.host_failed),
            service_failures=Bulkhead(Event.SERVICE_FAILED, monitor.service_failed),
            limits=limits_of(settings),
            fleet=FleetState(known=len(settings.hosts)),
        )

    def adopt(self, settings: Settings) -> None:
        """Apply new settings; the fleet handles hosts whose connection parameters changed."""
        self.settings = settings
        self.budgets.adopt(settings)
        self.limits = limits_of(settings)
        selection = selection_of(settings)
        if selection != self.selection:
            self.selection = selection

    async def open_catalogue(self, catalogue: "Catalogue") -> None:
        """Set the open catalogue, and record in it the host keys that were learned before."""
        from harvestd.report.small_files import Evals  # noqa: PLC0415  (imported by a thread of `startup.open`)

        self.catalogue, self.evals = catalogue, Evals()
        self.catalogue_opened.set()
        for identity, key_line in self.links.new_pins.items():
            await catalogue.put(identity, key_line)

    @property
    def window(self) -> int:
        """Return the bytes that may be in flight on each host's own connection.

        All of them share a quarter of the memory.
        """
        share = self.settings.limits.memory // 4 // max(1, self.fleet.known)
        return max(_LEAST_WINDOW, min(CONTROL_WINDOW, share))

    def storage_of(self, host: Host) -> str:
        """Return the id of the storage that holds a host's trees."""
        return host.storage or host.identity

    def settle_of(self, host: Host) -> float:
        """Return the seconds without a change that complete an item without a marker.

        `NO_TIME` if the host may end soon.
        """
        return NO_TIME if host.name in self.fleet.rescue.ending_hosts else self.settings.poll.settle.total_seconds()

    def target_of(self, host: Host) -> Target:
        """Return where and how to reach a host, as far as the configuration or a provider specifies it."""
        return target_of(host, self.settings)

    def watch_list_of(self, host: Host) -> WatchList:
        """Return the trees to scan on a host."""
        remote = self.settings.remote_for(host)
        training = [Tree(root, name, TreeKind.TRAINING) for root in remote.roots for name in remote.training_dirs]
        evals = [Tree(root, name, TreeKind.EVAL) for root in remote.roots for name in remote.eval_dirs]
        named = {part for pattern in self.settings.select.include for part in pattern.split("/")}
        return WatchList(
            (*training, *evals), PRUNED_DIRECTORIES - named, push=self.fleet.follows and self.settings.poll.push
        )

    def naming_of(self, host: Host, gpu_names: tuple[str, ...], writer: str | None = None) -> NamingContext:
        """Return the naming context of a host.

        The hardware is that of the machine that calls itself `writer`, if known.
        """
        naming = self.settings.naming
        other = self.fleet.machines.writing(writer, host)
        host = self.fleet.present.get(host.identity, host)
        owner = host if other is None else self.fleet.present.get(other.host.identity, other.host)
        rules = tuple(NamingRule(rule.experiment, rule.host, rule.run, rule.model) for rule in naming.rules)
        return NamingContext(
            host=host.name,
            rules=rules,
            default_experiment=naming.default_experiment,
            hardware=owner.hardware,
            experiment=host.experiment,
            instance_type=owner.instance_type,
            gpus=owner.gpus,
            gpu_names=gpu_names if other is None else other.facts.gpu_names,
            machine=None if other is None else owner.name,
            models=naming.models,
        )

    async def check_directories(self) -> None:
        """Apply what the operator did to experiment directories. Raise `HaltedForSafety`."""
        if self.directories is not None:
            await self.directories.refresh()


def _reconnecting(settings: Settings) -> int:
    """Return how many hosts that failed the last time are tried at once."""
    return max(1, settings.limits.connecting // 4)


def selection_of(settings: Settings) -> Selection:
    """Return the operator's selection as the planner's type."""
    return Selection(
        checkpoint=CheckpointPolicy(settings.select.checkpoint),
        records=settings.select.records,
        tensorboard=settings.select.tensorboard,
        exclude=settings.select.exclude,
        include=settings.select.include,
        datasets=(*DATASETS, *settings.naming.datasets),
        models=settings.naming.models,
    )


def target_of(host: Host, settings: Settings) -> Target:
    """Return where and how to reach a host, as far as the configuration or a provider specifies it."""
    ssh = settings.ssh_for(host)
    user, port = host.user or ssh.user or "", host.port or ssh.port or 0
    if not ssh.config_files:
        user, port = user or DEFAULT_USER, port or 22
    return Target(
        identity=host.identity,
        name=host.name,
        address=host.address,
        port=port,
        user=user,
        default_user=DEFAULT_USER,
        identity_files=ssh.identity_files or (),
        default_identity_files=default_identity_files(ssh),
        identities_only=ssh.identities_only,
        agent=ssh.agent,
        agent_socket=str(ssh.agent_socket or ""),
        host_keys=ssh.host_keys,
        known_hosts=ssh.known_hosts,
        connect_timeout=ssh.connect_timeout,
        keepalive=ssh.keepalive,
        config_files=ssh.config_files,
        proxy_jump=ssh.proxy_jump,
    )
