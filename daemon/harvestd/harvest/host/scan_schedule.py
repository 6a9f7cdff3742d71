"""Decides when a scan of a host must be requested: rarely, while the host scans by itself and reports it.

What a host reports may be incomplete or invented, and its program may fail. So a scan is requested from time to time
whatever it reports, and as soon as the reports of its own scans are overdue.
"""

import time
from typing import Final

from harvestd.remote.api import REST_PER_SCAN, WHOLE_EVERY

_INTERVALS: Final = 2
"""Intervals without a report after which a scan is requested, beyond the time in which the host may rest."""
_SCANS: Final = REST_PER_SCAN + 2
"""The same in durations of the last scan."""


class ScanSchedule:
    """Tracks the scans of one connected host; all times are monotonic seconds."""

    def __init__(self) -> None:
        self._requested = 0.0
        """When the last requested scan ended."""
        self._reported = 0.0
        """When the host last reported a scan of all trees, or that it goes on."""
        self._took = 0.0
        self._looked = 0.0
        self.interval = 0.0
        """Seconds between two scans."""
        self.scans_itself = False
        """Whether the host scans by itself in each interval."""

    def requested(self, looked: float, took: float) -> None:
        """Note the end of a requested scan that took so many seconds; `looked`: see `Box.looked`."""
        self._requested = self._reported = time.monotonic()
        self._looked, self._took = looked, took

    def pushed(self, looked: float) -> None:
        """Note what the host pushed: only a scan of all its trees counts."""
        if looked > self._looked:
            self._looked, self._reported = looked, time.monotonic()

    def reported(self, took: float | None = None) -> None:
        """Note that the host scanned by itself and found nothing, or (without `took`) that it is still scanning."""
        self._reported = time.monotonic()
        if took is not None:
            self._took = took

    @property
    def due(self) -> float:
        """When the next scan must be requested."""
        if not self.scans_itself:
            return self._requested + self.interval
        overdue = self._reported + _INTERVALS * self.interval + _SCANS * self._took
        return min(overdue, self._requested + max(self.interval, WHOLE_EVERY))
