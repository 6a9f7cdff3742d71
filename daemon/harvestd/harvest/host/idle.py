"""Noticing boxes that cost money and do nothing: for hours nothing moves in their trees and nothing runs on their GPUs.

By observations on our clock. A box that can't say what runs on its GPUs is never called idle.
"""

import time
from typing import Final

from harvestd.convention.scan.snapshot import Snapshot
from harvestd.harvest.context import House, Rest
from harvestd.inventory.host import Host
from harvestd.remote.api import Box
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_ASK_EVERY: Final = 900.0
"""Seconds between two questions about its GPUs, and of stillness before the first."""
_IDLE_AFTER: Final = 2 * 3600.0
"""Seconds."""
_SLACK: Final = 60.0
"""Seconds by which a box's account of a change may be off."""


class Idling:
    """Follows one host for as long as a connection lasts."""

    def __init__(self, host: Host, house: House, box: Box) -> None:
        self._host = host
        self._house = house
        self._box = box
        self._is_first = True

    async def look(self, snapshot: Snapshot | None) -> None:
        """Take in a look at the box, ask it if that is due, and tell when it is idle. Raises `Retry`."""
        now = time.monotonic()
        rest = self._house.rests.setdefault(self._host.identity, Rest(since=now, asked_at=now))
        if snapshot is None or self._has_moved(snapshot, now - rest.since):
            rest.since, rest.told = now, False
        self._is_first = False
        if now - max(rest.since, rest.asked_at) < _ASK_EVERY:
            return
        rest.asked_at = now
        if await self._box.gpu_processes() != 0:
            rest.since, rest.told = now, False
        elif not rest.told and now - rest.since >= _IDLE_AFTER:
            rest.told = True
            self._tell(now - rest.since)

    def _has_moved(self, snapshot: Snapshot, rested: float) -> bool:
        """Return whether anything moved since it rests; the first look of a connection is news whatever it shows."""
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
