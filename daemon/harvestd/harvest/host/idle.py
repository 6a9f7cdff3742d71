"""Detects idle hosts, which cost money: no changes in their trees and no GPU processes for hours.

Based on observations by the local clock. A host that can't report its GPU processes is never called idle.
"""

import time
from typing import Final

from harvestd.convention.scan.snapshot import Snapshot
from harvestd.harvest.context import Context
from harvestd.harvest.state import Rest
from harvestd.inventory.host import Host
from harvestd.remote.api import Box
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

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

    async def look(self, snapshot: Snapshot | None) -> None:
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
