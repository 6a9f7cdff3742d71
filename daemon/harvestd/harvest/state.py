"""What is known of the hosts now, by host identity; nothing of it is recorded. Changed only between two awaits."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from msgspec import Struct

from harvestd.convention.scan.model import ScanResult
from harvestd.convention.scan.views import View
from harvestd.convention.structs import Immutable
from harvestd.harvest.fleet.machines import Machines
from harvestd.harvest.fleet.preemption import Preemption
from harvestd.inventory.host import Host
from harvestd.planning.plan import Plan
from harvestd.remote.api import Box

if TYPE_CHECKING:
    from harvestd.harvest.verdict.latest import Judged
    from harvestd.harvest.verdict.service import VerdictService

_SHOWN_LATELY = 300.0
"""Seconds for which the last scan of a host counts as current, at least."""
_LOOKS = 2
"""A scan counts as current for the time of this many scans, if that is longer."""


class Showing(Immutable):
    """What one connected host showed last."""

    storage: str
    evals: frozenset[str] = frozenset()
    """The remote paths of its evals."""
    view: View | None = None
    """Which of its trees it does not show; None before its first scan."""


class Outlook(Immutable):
    """The result of the last scan of a host."""

    host: Host
    seen: ScanResult
    plan: Plan
    refused: frozenset[str]
    """Remote paths of files that could not be published locally."""
    scanned: float
    """When the last scan of all trees began, in monotonic seconds. The host may have pushed changes since."""
    took: float = 0.0
    """Seconds from the request for that scan to its end."""

    def is_fresh(self, now: float, interval: float) -> bool:
        """Return whether the scan is recent enough to count as current; `interval`: seconds between scans."""
        return now - self.scanned < max(_SHOWN_LATELY, _LOOKS * (interval + self.took))


class Rest(Struct):
    """How long a host has been idle; times in monotonic seconds."""

    since: float
    """When something changed last, or the host was first scanned."""
    asked_at: float
    """When its GPUs were queried last."""
    told: bool = False


@dataclass
class HostState:
    """All that is known of one host."""

    box: Box | None = None
    """None: it is not connected."""
    storage: str = ""
    """The storage that holds its trees; set with `box`."""
    showing: Showing | None = None
    """What it showed last; None: it is not being watched."""
    outlook: Outlook | None = None
    """The result of the last scan on the present connection."""
    is_unreached: bool = False
    """Whether the last attempt to connect failed."""
    unreadable: str | None = None
    """Why it could not be read the last time; None: it could, or was not tried."""
    wants_scan: bool = False
    """Whether the next scan must be a full one, whatever it pushes."""
    rest: Rest | None = None
    verdict: "Judged | None" = None
    """The newest verdict."""
    judging: "VerdictService | None" = None
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

    def outlooks(self) -> Iterator[Outlook]:
        """Yield the results of the last scans."""
        for state in self.all():
            if state.outlook is not None:
                yield state.outlook

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
            showing = state.showing
            if showing is not None and showing.storage != storage:
                before = others.get(showing.storage)
                others[showing.storage] = showing.evals if before is None else before | showing.evals
        return others

    def views_beside(self, host: str, storage: str) -> list[View]:
        """Return the views of the other connected hosts that share a host's storage."""
        others = (state.showing for identity, state in self._states.items() if identity != host)
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
