"""Queries whether any process that could write a run is alive; rarely, since the query is expensive.

A run that several hosts show may be written by any of them, so all of these that are connected are queried.

Detects idle hosts, which cost money: no changes in their trees and no GPU processes for hours. Based on observations
by the local clock. A host that can't report its GPU processes is never called idle.
"""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from harvestd.convention.scan.model import ScanResult
from harvestd.convention.scan.snapshot import Snapshot
from harvestd.errors import HostQuarantined, Retry
from harvestd.harvest.context import Context
from harvestd.harvest.state import Rest
from harvestd.inventory.host import Host
from harvestd.planning.run_status import Life
from harvestd.remote.api import Box
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_GOOD_FOR: Final = 60.0
"""Seconds for which an answer is valid, and in which no query is repeated."""


class LivenessMonitor:
    """Queries processes on behalf of one connected host."""

    def __init__(self, host: Host, context: Context, box: Box) -> None:
        self._host = host
        self._context = context
        self._box = box
        self._asked_at: float | None = None
        self._processes: int | None = None

    def known(self) -> Life:
        """Return what is known now."""
        return Life(
            idle_for=self._context.settings.verdict.idle_for.total_seconds(),
            gpu_processes=None if self._is_due() else self._processes,
            hosts=self._context.fleet.hosts,
            ending=self._context.fleet.ending,
        )

    async def asked(self, seen: ScanResult) -> Life | None:
        """Query the hosts and return the result; None if that was done just now. Raise `Retry`.

        `seen` is what this host shows; others may show a part of it as well.
        """
        if not self._is_due():
            return None
        counts = [await self._box.gpu_processes()]
        for storage in self._storages(seen):
            for identity, box in list(self._context.states.connected(storage).items()):
                if identity != self._host.identity:
                    counts.append(await _of_another(box))
        known = [count for count in counts if count is not None]
        self._processes = sum(known) if len(known) == len(counts) else None
        self._asked_at = time.monotonic()
        return self.known()

    def _storages(self, seen: ScanResult) -> set[str]:
        """Return the storages that show any run that this host shows."""
        own, knowledge = self._context.storage_of(self._host), self._context.catalogue.knowledge
        records = (knowledge.run_at(own, run.place) for run in seen.runs)
        experiments = {record.experiment for record in records if record is not None and record.experiment}
        return {own, *(run.storage for each in experiments for run in knowledge.runs_of(each))}

    def _is_due(self) -> bool:
        return self._asked_at is None or time.monotonic() - self._asked_at >= _GOOD_FOR


async def _of_another(box: Box) -> int | None:
    """Query a host that another task works with; if it fails, that task detects the failure itself."""
    try:
        return await box.gpu_processes()
    except (Retry, HostQuarantined):
        return None


@contextmanager
def shown(context: Context, host: Host, box: Box) -> Iterator[None]:
    """Register this connected host for queries by others, for the duration of the body."""
    state = context.states.of(host.identity)
    state.box, state.storage = box, context.storage_of(host)
    try:
        yield
    finally:
        state.box = None


_ASK_EVERY: Final = 900.0
"""Seconds between two queries of the GPUs, and seconds without a change before the first."""
_IDLE_AFTER: Final = 2 * 3600.0
"""Seconds without activity after which a host is idle."""
_SLACK: Final = 60.0
"""Seconds by which a host's timestamps of a change may be off."""


class IdleDetector:
    """Tracks one host for as long as a connection lasts."""

    def __init__(self, host: Host, context: Context, box: Box) -> None:
        self._host = host
        self._context = context
        self._box = box
        self._is_first = True

    async def update(self, snapshot: Snapshot | None) -> None:
        """Process a scan, and do what `query` does. Raise `Retry`."""
        now = time.monotonic()
        state = self._context.states.of(self._host.identity)
        rest = state.rest = state.rest or Rest(since=now, asked_at=now)
        if snapshot is None or self._has_moved(snapshot, now - rest.since):
            rest.since, rest.told = now, False
        self._is_first = False
        await self.query()

    async def query(self) -> None:
        """Query the GPUs if that is due, and log when the host is idle: what time alone requires. Raise `Retry`."""
        now, rest = time.monotonic(), self._context.states.of(self._host.identity).rest
        if rest is None or now - max(rest.since, rest.asked_at) < _ASK_EVERY:
            return
        rest.asked_at = now
        if await self._box.gpu_processes() != 0:
            rest.since, rest.told = now, False
        elif not rest.told and now - rest.since >= _IDLE_AFTER:
            rest.told = True
            self._tell(now - rest.since)

    def _has_moved(self, snapshot: Snapshot, rested: float) -> bool:
        """Return whether anything changed in the last `rested` seconds.

        The first scan of a connection always counts as changed, so its timestamps decide.
        """
        if not snapshot.changed or not self._is_first:
            return snapshot.changed
        if not snapshot.box_time_ns:
            return True
        versions = (entry.version for listing in snapshot.listings for entry in listing.entries.values())
        newest = max((max(version.mtime_ns, version.ctime_ns) for version in versions), default=0)
        return (snapshot.box_time_ns - newest) / 1e9 < rested - _SLACK

    def _tell(self, seconds: float) -> None:
        cents = self._host.cents_per_hour
        get_logger().warning(
            Event.HOST_IDLE,
            host=self._host.name,
            idle_seconds=round(seconds),
            cents_per_hour=cents,
            cost=None if cents is None else round(cents * seconds / 3600),
        )
