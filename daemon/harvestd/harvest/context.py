"""What every host's task works with: settings, store, catalogue, budgets. Made once, by the service.

A reload puts other settings in: whoever needs one asks for it anew at each look, and keeps none.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import anyio
from msgspec import Struct

from harvestd.bulkhead import Bulkhead
from harvestd.convention.eval_names import DATASETS
from harvestd.convention.kinds import PRUNED_DIRECTORIES
from harvestd.convention.metadata.naming import NamingContext, NamingRule
from harvestd.convention.metadata.pace import Stride
from harvestd.convention.rules import CheckpointPolicy, Selection
from harvestd.convention.scan.model import Survey
from harvestd.convention.scan.snapshot import Tree, TreeKind
from harvestd.convention.scan.stability import NO_TIME
from harvestd.convention.scan.views import View
from harvestd.convention.structs import Immutable
from harvestd.harvest.budgets import Bandwidth, MemoryBudget
from harvestd.harvest.descriptors import BATCHES, Descriptors
from harvestd.harvest.directory_lock import Places
from harvestd.harvest.first_scans import Beginning
from harvestd.harvest.fleet.machines import Machines
from harvestd.harvest.fleet.preemption import Rescue
from harvestd.harvest.fleet.suspend import Waking
from harvestd.harvest.monitor import Monitor, Silent
from harvestd.harvest.requests import Attending
from harvestd.harvest.room import Room
from harvestd.harvest.sync import Bell
from harvestd.harvest.transfer.progress import UnderWay
from harvestd.harvest.volume_lock import Leases
from harvestd.inventory.host import Host
from harvestd.planning.plan import Plan
from harvestd.remote.api import Box, Limits, WatchList
from harvestd.remote.ssh.connect import CONTROL_WINDOW
from harvestd.remote.ssh.jump_hosts import Hops
from harvestd.remote.ssh.target import Target
from harvestd.settings import DEFAULT_USER, Settings, default_identity_files
from harvestd.telemetry.deadlines import Deadlines
from harvestd.telemetry.events import Event

_LEAST_WINDOW = 64 * 1024
_BULK_HOPS = 4
"""Connections to one jump host for large files."""


class Showing(Immutable):
    """What one connected host showed last."""

    storage: str
    evals: frozenset[str] = frozenset()
    """The places of its evals."""
    view: View | None = None
    """Which of its trees it does not show; None before its first scan."""


_SHOWN_LATELY = 300.0
"""Seconds for which a host is believed to show what it showed, at least."""
_LOOKS = 2
"""As many looks as may come late."""


class Outlook(Immutable):
    """What one look at a host came to."""

    host: Host
    seen: Survey
    plan: Plan
    refused: frozenset[str]
    """Places of what could not be put in its place at home."""
    scanned: float
    """When the last whole look began: monotonic seconds. The box may have told of changes since."""
    took: float = 0.0
    """Seconds from the request for that look to its end."""

    def is_fresh(self, now: float, interval: float) -> bool:
        """Return whether the host is believed to show now what it showed then; `interval`: seconds between looks."""
        return now - self.scanned < max(_SHOWN_LATELY, _LOOKS * (interval + self.took))


class Rest(Struct):
    """For how long one host has done nothing: monotonic seconds."""

    since: float
    """Something moved then, or it was seen first."""
    asked_at: float
    """When its GPUs were asked last."""
    told: bool = False


if TYPE_CHECKING:
    from harvestd.catalogue.entries import Intent
    from harvestd.catalogue.repository import Catalogue
    from harvestd.harvest.experiments.directories import Homes
    from harvestd.harvest.verdict.latest import Judged
    from harvestd.harvest.verdict.service import Judging
    from harvestd.report.eval_memory import Evals


def limits_of(settings: Settings) -> Limits:
    """Return how long a host may take, by the configuration; connections that exist keep what they were made with."""
    limits = settings.limits
    return Limits(scan_time=limits.scan_time, inspect_time=limits.inspect_time, answer_time=limits.answer_time)


@dataclass
class House:
    """The shared context."""

    settings: Settings
    connecting: anyio.CapacityLimiter
    """Of hosts that are being logged in to."""
    reconnecting: anyio.CapacityLimiter
    """The same, for those that could not be reached last time."""
    memory: MemoryBudget
    """For what is collected or followed."""
    bulk: MemoryBudget
    """For the connections of large files."""
    bandwidth: Bandwidth
    room: Room
    selection: Selection
    monitor: Monitor = field(default_factory=Silent)
    host_failures: Bulkhead = field(default_factory=lambda: Bulkhead(Event.HOST_FAILED))
    """Contains the unexpected exceptions of one host's work."""
    service_failures: Bulkhead = field(default_factory=Bulkhead)
    """Contains those of everything that works beside the hosts."""
    limits: Limits = field(default_factory=Limits)
    storing: anyio.CapacityLimiter = field(default_factory=lambda: anyio.CapacityLimiter(BATCHES))
    """Of batches that are being written: each has its files open, and more threads only wait for each other."""
    descriptors: Descriptors = field(default_factory=Descriptors)
    """Of the process; see `opening`, which raises their limit."""
    beginning: Beginning = field(default_factory=Beginning)
    """Whose turn it is to be looked at for the first time."""
    harvesting: Leases = field(default_factory=Leases)
    """By which host each storage is fetched from."""
    learning: anyio.Lock = field(default_factory=anyio.Lock)
    """Held while runs get their experiments; never over a wait for the network."""
    showing: dict[str, Showing] = field(default_factory=dict)
    """What each connected host showed last, by its identity."""
    outlooks: dict[str, Outlook] = field(default_factory=dict)
    """What the last look at each connected host came to, by its identity."""
    looked: Bell = field(default_factory=Bell)
    """Rung after each look at a host."""
    unreached: set[str] = field(default_factory=set)
    """Identities of hosts whose last attempt to connect failed."""
    unreadable: dict[str, str] = field(default_factory=dict)
    """Why each host that is not connected could not be read the last time, by its identity."""
    retry_now: Bell = field(default_factory=Bell)
    """Rung when the operator asks for a scan of all hosts: those that were lost are tried again at once."""
    asked_for: set[str] = field(default_factory=set)
    """Identities of hosts whose next look is to be a whole one, whatever they tell by themselves."""
    strides: dict[tuple[str, str], Stride] = field(default_factory=dict)
    """How each run goes whose log was heard, by its key: kept over connections."""
    rests: dict[str, Rest] = field(default_factory=dict)
    """By the identity of a host."""
    machines: Machines = field(default_factory=Machines)
    knows: anyio.Event = field(default_factory=anyio.Event)
    """Set once the catalogue is open; hosts are connected meanwhile, and nothing else asks for it before."""
    catalogue: "Catalogue" = field(init=False)
    evals: "Evals" = field(init=False)
    """What the newest evals came to, for reports; there once the catalogue is."""
    attending: Attending = field(default_factory=Attending)
    """Follows what is asked for by hand."""
    new_pins: dict[str, str] = field(default_factory=dict)
    """Host keys to keep, by identity, of hosts that were logged in to before the catalogue was open."""
    boxes: dict[str, dict[str, Box]] = field(default_factory=dict)
    """Those that are connected, by the storage that they show and by their hosts' identities."""
    hosts: frozenset[str] | None = None
    """The names and identities of all known hosts; None where the inventory is not followed."""
    present: Mapping[str, Host] = field(default_factory=dict)
    """All hosts that there are, as their providers know them now, by identity; see `hosts` for who says so."""
    ending: frozenset[str] = frozenset()
    """The names and identities of those that are being switched off."""
    known: int = 0
    """How many hosts there are to share the memory; as many as were written down, until somebody says."""
    follows: bool = False
    """Whether hosts are watched for good, so that they are worth asking to tell of changes by themselves."""
    rescue: Rescue = field(default_factory=Rescue)
    """Which hosts may end soon."""
    is_paused: bool = False
    """Whether a person wants nothing to be fetched for now; looks go on."""
    under_way: UnderWay = field(default_factory=UnderWay)
    """Knows the large files that are coming."""
    hops: Hops = field(default_factory=Hops)
    """Connections to jump hosts, which all hosts behind one share."""
    bulk_hops: Hops = field(default_factory=lambda: Hops(_BULK_HOPS))
    """Further ones for large files, so that one connection's speed is not all that a jump host gives."""
    waking: Waking = field(default_factory=Waking)
    """Interrupts whoever counts on a link when the workstation slept, while somebody runs it."""
    deadlines: Deadlines = field(default_factory=Deadlines)
    """Knows until when each host's task must have come round."""
    unsettled: "list[Intent]" = field(default_factory=list)
    """What was to be published when that failed: it is settled before anything else is published."""
    places: Places = field(default_factory=Places)
    """Keeps directories where they are while files are put into them."""
    verdicts: "dict[str, Judged]" = field(default_factory=dict)
    """The newest verdict on each host that there is, by its identity."""
    judging: "dict[str, Judging]" = field(default_factory=dict)
    """Who judges each host that is being watched now, by its identity."""
    rested: Bell = field(default_factory=Bell)
    """Rung when all is here that a host showed: a good moment for what can wait, while the host is asked once more."""
    homes: "Homes | None" = None
    """Notices what a person does to directories; none where there is no data root."""
    dirty: set[str | None] = field(default_factory=set)
    """Experiments whose manifest is behind the catalogue; None: what waits in `_unfiled`, which has one too."""
    unreported: set[str] = field(default_factory=set)
    """Experiments that changed since their report was looked at."""

    @classmethod
    def of(cls, settings: Settings, monitor: Monitor) -> "House":
        """Make the context from validated settings; `learn` completes it."""
        return cls(
            settings=settings,
            connecting=anyio.CapacityLimiter(settings.limits.connecting),
            reconnecting=anyio.CapacityLimiter(_reconnecting(settings)),
            memory=MemoryBudget(settings.limits.memory // 4),
            bulk=MemoryBudget(settings.limits.memory // 2),
            bandwidth=Bandwidth(settings.limits.bandwidth),
            room=Room(settings.limits.free_space),
            selection=selection_of(settings),
            monitor=monitor,
            host_failures=Bulkhead(Event.HOST_FAILED, monitor.host_failed),
            service_failures=Bulkhead(Event.SERVICE_FAILED, monitor.service_failed),
            limits=limits_of(settings),
            known=len(settings.hosts),
        )

    def adopt(self, settings: Settings) -> None:
        """Work by these settings from now on; hosts that are to be reached differently are the fleet's affair."""
        self.settings = settings
        self.connecting.total_tokens = settings.limits.connecting
        self.reconnecting.total_tokens = _reconnecting(settings)
        self.memory.resize(settings.limits.memory // 4)
        self.bulk.resize(settings.limits.memory // 2)
        self.bandwidth.resize(settings.limits.bandwidth)
        self.room.resize(settings.limits.free_space)
        self.limits = limits_of(settings)
        selection = selection_of(settings)
        if selection != self.selection:
            self.selection = selection

    async def learn(self, catalogue: "Catalogue") -> None:
        """Take the catalogue that was opened, and keep in it what was learned meanwhile."""
        from harvestd.report.eval_memory import Evals  # noqa: PLC0415  (imported meanwhile, see `opening`)

        self.catalogue, self.evals = catalogue, Evals()
        self.knows.set()
        for identity, key_line in self.new_pins.items():
            await catalogue.put(identity, key_line)

    @property
    def window(self) -> int:
        """Return how many bytes may be on their way on each host's own connection: all of them share a quarter."""
        share = self.settings.limits.memory // 4 // max(1, self.known)
        return max(_LEAST_WINDOW, min(CONTROL_WINDOW, share))

    def storage_of(self, host: Host) -> str:
        """Return what a host's trees lie on."""
        return host.storage or host.identity

    def settle_of(self, host: Host) -> float:
        """Return the seconds of quiet that seal what has no marker on a host; `NO_TIME` where it may end soon."""
        return NO_TIME if host.name in self.rescue.perils else self.settings.poll.settle.total_seconds()

    def target_of(self, host: Host) -> Target:
        """Return where and how a host is reached, as far as the operator or a provider says."""
        return target_of(host, self.settings)

    def watch_list_of(self, host: Host) -> WatchList:
        """Return the trees to look at on a host."""
        remote = self.settings.remote_for(host)
        training = [Tree(root, name, TreeKind.TRAINING) for root in remote.roots for name in remote.training_dirs]
        evals = [Tree(root, name, TreeKind.EVAL) for root in remote.roots for name in remote.eval_dirs]
        named = {part for pattern in self.settings.select.include for part in pattern.split("/")}
        return WatchList((*training, *evals), PRUNED_DIRECTORIES - named, push=self.follows and self.settings.poll.push)

    def naming_of(self, host: Host, gpu_names: tuple[str, ...], writer: str | None = None) -> NamingContext:
        """Return what naming knows of a host, with the hardware of the machine that calls itself `writer` if known."""
        naming = self.settings.naming
        other = self.machines.writing(writer, host)
        host = self.present.get(host.identity, host)
        owner = host if other is None else self.present.get(other.host.identity, other.host)
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

    def shown_by_others(self, host: Host) -> dict[str, frozenset[str]]:
        """Return the places of the evals that hosts of other storages show now, by storage."""
        own = self.storage_of(host)
        others: dict[str, frozenset[str]] = {}
        for each in self.showing.values():
            if each.storage != own:
                before = others.get(each.storage)
                others[each.storage] = each.evals if before is None else before | each.evals
        return others

    def views_beside(self, host: Host) -> list[View]:
        """Return what the other connected hosts of a host's storage do not show."""
        own = self.storage_of(host)
        others = (each for identity, each in self.showing.items() if identity != host.identity)
        return [each.view for each in others if each.storage == own and each.view is not None]

    async def look_around(self) -> None:
        """Follow what a person did to experiments' directories. Raises `HaltedForSafety`."""
        if self.homes is not None:
            await self.homes.look()

    def touch(self, experiments: Iterable[str | None]) -> None:
        """Note that these experiments changed; None: what waits in `_unfiled`."""
        changed = set(experiments)
        self.dirty |= changed
        self.unreported.update(each for each in changed if each is not None)


def _reconnecting(settings: Settings) -> int:
    """Return how many hosts that failed last time are tried at once."""
    return max(1, settings.limits.connecting // 4)


def selection_of(settings: Settings) -> Selection:
    """Return the operator's choice in the planner's terms."""
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
    """Return where and how a host is reached, as far as the operator or a provider says."""
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
