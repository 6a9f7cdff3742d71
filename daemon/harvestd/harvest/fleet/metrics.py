"""How the daemon is doing: kept by those who work, read by whoever reports. Nothing of it outlives the process."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final

from harvestd.harvest.monitor import Silent

POLL_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds: the upper bounds of the classes that looks are counted in; the last class has none."""


@dataclass
class HostTally:
    """What this process saw of one host."""

    state: str = "connecting"
    """connecting, connected, lost, quarantined or failed."""
    error: str = ""
    """Why it is lost or quarantined, or failed; escaped where it is shown."""
    last_success: datetime | None = None
    pending: int = 0
    """Bytes that are wanted and not here, as of the last look."""
    moved: int = 0
    """Bytes that came."""
    failures: int = 0
    defects: int = 0
    """Unexpected exceptions of its task."""


@dataclass
class Tally(Silent):
    """Counts what this process saw, for each host that there is."""

    connected: set[str] = field(default_factory=set)
    """Names of hosts whose link is up."""
    hosts: dict[str, HostTally] = field(default_factory=dict)
    """By name."""
    files: int = 0
    """Put at their places since the start."""
    last_success: datetime | None = None
    """When a look at any host, and all that it asked for at once, was last done."""
    services: Counter[str] = field(default_factory=Counter)
    """Unexpected exceptions of the services beside the hosts, by service."""
    polls: list[int] = field(default_factory=lambda: [0] * (len(POLL_BOUNDS) + 1))
    """How many looks took how long, by the classes of `POLL_BOUNDS`."""
    polling: float = 0.0
    """Seconds that all looks took together."""

    def of(self, host: str) -> HostTally:
        """Return what is counted for a host."""
        return self.hosts.setdefault(host, HostTally())

    def keep(self, hosts: Collection[str]) -> None:
        """Forget all others."""
        for gone in self.hosts.keys() - set(hosts):
            del self.hosts[gone]

    def stands(self, host: str, state: str, error: str = "") -> None:
        """Note how a host stands now."""
        tally = self.of(host)
        tally.state, tally.error = state, error

    def succeeded(self, host: str, at: datetime, pending: int) -> None:
        """Note that a look, and all that it asked for at once, is done."""
        tally = self.of(host)
        tally.last_success, tally.pending = at, pending
        self.last_success = at

    def moved(self, host: str, size: int) -> None:
        """Count them."""
        self.of(host).moved += size

    def settled(self, host: str, files: int) -> None:  # noqa: ARG002  (one number speaks of all hosts)
        """Count them."""
        self.files += files

    def failed(self, host: str) -> None:
        """Count it."""
        self.of(host).failures += 1

    def host_failed(self, host: str) -> None:
        """Count it."""
        self.of(host).defects += 1

    def service_failed(self, service: str) -> None:
        """Count it."""
        self.services[service] += 1

    def polled(self, host: str, seconds: float) -> None:  # noqa: ARG002  (the same)
        """Count it."""
        self.polls[bisect_left(POLL_BOUNDS, seconds)] += 1
        self.polling += seconds

    def line(self, hosts: int) -> str:
        """Return a line for a person, for so many hosts in all."""
        last = f"last success {self.last_success:%Y-%m-%d %H:%M:%S %Z}" if self.last_success else "no success yet"
        return f"{len(self.connected)} of {hosts} hosts connected; {last}; {self.files} files since the start"
