"""Progress of the work: the interface of its listeners, and the listener that counts the daemon's metrics.

The metrics are updated by the tasks and read by reports; they are not kept beyond the process.
"""

import time
from bisect import bisect_left
from collections import Counter
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final, Protocol


class ProgressListener(Protocol):
    """Receives progress and failures as they happen; sizes in bytes."""

    def planned(self, host: str, size: int, files: int) -> None:
        """Count what a scan found to fetch, apart from what is being fetched already."""

    def moved(self, host: str, size: int) -> None:
        """Count `size` more bytes received from a host."""

    def resumed(self, host: str, size: int) -> None:
        """Count `size` bytes that were received before this process began, and are still valid."""

    def settled(self, host: str, files: int) -> None:
        """Count `files` more published files."""

    def failed(self, host: str) -> None:
        """Count a file that could not be fetched this time."""

    def polled(self, host: str, seconds: float) -> None:
        """Record the seconds that a scan, and everything that it triggered at once, took."""

    def host_failed(self, host: str) -> None:
        """Count an unexpected exception of a host's task."""

    def service_failed(self, service: str) -> None:
        """Count an unexpected exception of a service beside the hosts."""


class NullListener:
    """Ignores everything."""

    def planned(self, host: str, size: int, files: int) -> None:
        """Ignore it."""

    def moved(self, host: str, size: int) -> None:
        """Ignore it."""

    def resumed(self, host: str, size: int) -> None:
        """Ignore it."""

    def settled(self, host: str, files: int) -> None:
        """Ignore it."""

    def failed(self, host: str) -> None:
        """Ignore it."""

    def polled(self, host: str, seconds: float) -> None:
        """Ignore it."""

    def host_failed(self, host: str) -> None:
        """Ignore it."""

    def service_failed(self, service: str) -> None:
        """Ignore it."""


POLL_BOUNDS: Final = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
"""Seconds: the upper bounds of the histogram of scan durations; its last bucket has none."""


@dataclass
class HostTally:
    """The metrics of one host in this process."""

    state: str = "connecting"
    """connecting, connected, lost, quarantined or failed."""
    since: float = field(default_factory=time.time)
    """When it entered this state, in Unix time."""
    method: str = ""
    """How it is read: probe or sftp; empty: it was not connected yet."""
    first_seen: float | None = None
    """When the catalogue first recorded it, in Unix time; None: it has not yet."""
    error: str = ""
    """Why it is lost, quarantined or failed; escaped where it is displayed."""
    last_success: datetime | None = None
    pending: int = 0
    """Bytes that are wanted and not here, as of the last scan."""
    moved: int = 0
    """Bytes received."""
    failures: int = 0
    defects: int = 0
    """Unexpected exceptions of its task."""


@dataclass
class NotificationCounts:
    """The alarms of one receiver, in this process."""

    waiting: int = 0
    """That it has not got yet."""
    delivered: int = 0
    dropped: int = 0
    failures: int = 0
    """Attempts that failed."""


@dataclass
class FleetMetrics(NullListener):
    """Counts the work of this process, for each present host."""

    connected: set[str] = field(default_factory=set)
    """Names of the connected hosts."""
    hosts: dict[str, HostTally] = field(default_factory=dict)
    """By name."""
    ended: int = 0
    """Connections that ended since the start."""
    files: int = 0
    """Files published since the start."""
    last_success: datetime | None = None
    """When a scan of any host, and everything that it triggered at once, was last completed."""
    services: Counter[str] = field(default_factory=Counter)
    """Unexpected exceptions of the services beside the hosts, by service."""
    notifications: dict[str, NotificationCounts] = field(default_factory=dict)
    """By receiver."""
    polls: list[int] = field(default_factory=lambda: [0] * (len(POLL_BOUNDS) + 1))
    """The number of scans in each bucket of `POLL_BOUNDS`."""
    polling: float = 0.0
    """The sum of all scan durations in seconds."""

    def of(self, host: str) -> HostTally:
        """Return the metrics of a host."""
        return self.hosts.setdefault(host, HostTally())

    def keep(self, hosts: Collection[str]) -> None:
        """Remove the metrics of all other hosts."""
        for gone in self.hosts.keys() - set(hosts):
            del self.hosts[gone]

    def set_state(self, host: str, state: str, error: str = "") -> None:
        """Set the state of a host."""
        tally = self.of(host)
        self.ended += tally.state == "connected" != state
        if tally.state != state:
            tally.since = time.time()
        tally.state, tally.error = state, error

    def succeeded(self, host: str, pending: int) -> None:
        """Note what a completed scan left to be done."""
        self.of(host).pending = pending

    def moved(self, host: str, size: int) -> None:
        """Count received bytes."""
        self.of(host).moved += size

    def settled(self, host: str, files: int) -> None:  # noqa: ARG002  (one number speaks of all hosts)
        """Count published files."""
        self.files += files

    def failed(self, host: str) -> None:
        """Count a failed fetch."""
        self.of(host).failures += 1

    def host_failed(self, host: str) -> None:
        """Count an unexpected exception of a host's task."""
        self.of(host).defects += 1

    def service_failed(self, service: str) -> None:
        """Count an unexpected exception of a service."""
        self.services[service] += 1

    def polled(self, host: str, seconds: float) -> None:
        """Count a completed scan by its duration."""
        self.of(host).last_success = self.last_success = datetime.now(UTC)
        self.polls[bisect_left(POLL_BOUNDS, seconds)] += 1
        self.polling += seconds

    def line(self, hosts: int) -> str:
        """Return a line for people, for this number of hosts."""
        last = f"last success {self.last_success:%Y-%m-%d %H:%M:%S %Z}" if self.last_success else "no success yet"
        return f"{len(self.connected)} of {hosts} hosts connected; {last}; {self.files} files since the start"
