"""What is known of the hosts now, by host identity; nothing of it is recorded. Changed only between two awaits.

Limits how many hosts are in their first scan, and in the transfers that follow from it, at once. The first scan of a
host finds more than any later one, and when a daemon starts, or a network comes back, all hosts are new at once. If
all were served in parallel, all would finish at the end, and everything that each shows and sends would be in memory
until then. One after the other, most finish early. A host that takes long gives its slot back and goes on beside the
next one.

The machines behind the hosts, by the host names that they report; known from the first connection of this process. On
a shared file system the host that shows a run may not be the one that wrote it.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import anyio
from msgspec import Struct
from msgspec import field as struct_field

from harvestd.catalogue.entries import VerdictRecord
from harvestd.convention.scan.model import ScanResult, View
from harvestd.convention.structs import Immutable
from harvestd.harvest.budgets import slot
from harvestd.harvest.fleet.interruptions import Preemption
from harvestd.inventory.host import Host
from harvestd.planning.plan import Plan
from harvestd.remote.api import Box, BoxFacts
from harvestd.safety.verdict import Verdict

if TYPE_CHECKING:
    from harvestd.harvest.verdict.service import VerdictService

_AT_ONCE: Final = 8
"""Enough to keep one processor busy with distant hosts."""
_LONGEST: Final = 6.0
"""Seconds: a hundred slow hosts have all begun after a minute and a quarter. With less, a hundred usual ones would all
begin before the first of them is complete, and take their memory at the same time."""


class StartGate:
    """Limits how many hosts begin at the same time."""

    def __init__(self, at_once: int = _AT_ONCE, longest: float = _LONGEST) -> None:
        self.free = anyio.CapacityLimiter(at_once)
        self._longest = longest

    def slot(self) -> AbstractAsyncContextManager[object]:
        """Return a context manager for a slot, acquired in order and given back early if the body takes long."""
        return slot(self.free, self._longest)


class Machine(Immutable):
    """A host, and the facts that its machine reported."""

    host: Host
    facts: BoxFacts


class Machines(Struct):
    """All machines that were connected."""

    _machines: dict[str, Machine] = struct_field(default_factory=dict)
    """By the host's identity."""
    _by_hostname: defaultdict[str, dict[str, Machine]] = struct_field(default_factory=lambda: defaultdict(dict))
    """By the host name that the machine reports, and by the host's identity."""

    def record(self, host: Host, facts: BoxFacts) -> None:
        """Record the facts that a host's machine reports now."""
        before = self._machines.get(host.identity)
        if before is not None:
            del self._by_hostname[before.facts.hostname][host.identity]
        self._machines[host.identity] = self._by_hostname[facts.hostname][host.identity] = Machine(host, facts)

    def writing(self, writer: str | None, shown_by: Host) -> Machine | None:
        """Return the other machine that calls itself `writer`, of a run that `shown_by` shows.

        None if it is that host itself, if it is unknown, or if several machines call themselves so.
        """
        found = self._by_hostname.get(writer, {}) if writer else {}
        if len(found) != 1 or shown_by.identity in found:
            return None
        return next(iter(found.values()))


_SHOWN_LATELY = 300.0
"""Seconds for which the last scan of a host counts as current, at least."""
_SCANS = 2
"""A scan counts as current for the time of this many scans, if that is longer."""


class VisibleEvals(Immutable):
    """What one connected host showed last."""

    storage: str
    evals: frozenset[str] = frozenset()
    """The remote paths of its evals."""
    view: View | None = None
    """Which of its trees it does not show; None before its first scan."""


class LastScan(Immutable):
    """The result of the last scan of a host."""

    host: Host
    seen: ScanResult
    plan: Plan
    refused: frozenset[str]
    """Remote paths of files that could not be published locally."""
    scanned: float
    """When the last scan of all trees began, in monotonic seconds. The host may have pushed changes since."""
    duration: float = 0.0
    """Seconds from the request for that scan to its end."""

    def is_fresh(self, now: float, interval: float) -> bool:
        """Return whether the scan is recent enough to count as current; `interval`: seconds between scans."""
        return now - self.scanned < max(_SHOWN_LATELY, _SCANS * (interval + self.duration))


class IdleState(Struct):
    """How long a host has been idle; times in monotonic seconds."""

    since: float
    """When something changed last, or the host was first scanned."""
    asked_at: float
    """When its GPUs were queried last."""
    is_logged: bool = False


class Judged(Immutable):
    """A verdict on one host."""

    verdict: Verdict
    at: float
    """When it was made, in Unix time by the local clock."""
    idle_since: float | None = None
    """Since when nothing has changed and nothing runs there, as far as observed, in Unix time.

    None: the host is at work, or this is unknown.
    """
    still_since: float | None = None
    """The same moment in monotonic seconds. It stays the same until something changes."""

    def record_of(self, host: Host) -> VerdictRecord:
        """Return it as the catalogue records it; `host` is the one that was judged."""
        return VerdictRecord(host.identity, host.name, self.verdict, self.at, self.idle_since, host.cents_per_hour)


@dataclass
class HostState:
    """All that is known of one host."""

    box: Box | None = None
    """None: it is not connected."""
    storage: str = ""
    """The storage that holds its trees; set with `box`."""
    visible: VisibleEvals | None = None
    """What it showed last; None: it is not being watched."""
    last_scan: LastScan | None = None
    """The result of the last scan on the present connection."""
    is_unreached: bool = False
    """Whether the last attempt to connect failed."""
    unreadable: str | None = None
    """Why it could not be read the last time; None: it could, or was not tried."""
    wants_scan: bool = False
    """Whether the next scan must be a full one, whatever it pushes."""
    idle: IdleState | None = None
    verdict: Judged | None = None
    """The newest verdict."""
    verdict_service: "VerdictService | None" = None
    """None: it is not being watched."""


class HostStates:
    """The states of all hosts, from their first mention until they leave the inventory."""

    def __init__(self) -> None:
        self._states: dict[str, HostState] = {}

    def of(self, identity: str) -> HostState:
        """Return the state of a host, which can be changed."""
        return self._states.setdefault(identity, HostState())

    def drop(self, identity: str) -> None:
        """Forget a host that has left the inventory."""
        self._states.pop(identity, None)

    def identities(self) -> list[str]:
        """Return the identities of the hosts."""
        return list(self._states)

    def all(self) -> list[HostState]:
        """Return the states of the hosts."""
        return list(self._states.values())

    def last_scans(self) -> Iterator[LastScan]:
        """Yield the results of the last scans."""
        for state in self.all():
            if state.last_scan is not None:
                yield state.last_scan

    def connected(self, storage: str) -> dict[str, Box]:
        """Return the connected hosts of a storage."""
        return {
            identity: state.box
            for identity, state in self._states.items()
            if state.box is not None and state.storage == storage
        }

    def evals_of_others(self, storage: str) -> dict[str, frozenset[str]]:
        """Return the remote paths of the evals that hosts of other storages show now, by storage."""
        others: dict[str, frozenset[str]] = {}
        for state in self._states.values():
            visible = state.visible
            if visible is not None and visible.storage != storage:
                before = others.get(visible.storage)
                others[visible.storage] = visible.evals if before is None else before | visible.evals
        return others

    def views_beside(self, host: str, storage: str) -> list[View]:
        """Return the views of the other connected hosts that share a host's storage."""
        others = (state.visible for identity, state in self._states.items() if identity != host)
        return [each.view for each in others if each is not None and each.storage == storage and each.view is not None]


@dataclass
class FleetState:
    """What is known of the hosts together."""

    hosts: frozenset[str] | None = None
    """Names and identities of all known hosts; None if the inventory is not followed."""
    present: Mapping[str, Host] = field(default_factory=dict)
    """All present hosts as their providers list them now, by identity; kept up to date together with `hosts`."""
    ending: frozenset[str] = frozenset()
    """Names and identities of the hosts that are being switched off."""
    known: int = 0
    """The number of hosts that share the memory; the number of configured hosts until the inventory is read."""
    follows: bool = False
    """Whether hosts are watched permanently, so that it is worth asking them to push changes."""
    rescue: Preemption = field(default_factory=Preemption)
    """Which hosts may end soon."""
    machines: Machines = field(default_factory=Machines)
    is_paused: bool = False
    """Whether the operator paused fetching; scans go on."""
