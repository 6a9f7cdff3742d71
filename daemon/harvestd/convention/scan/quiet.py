"""Measures for how long nothing has changed on one host, by our own scans and clock; pure, with state.

The host's clock and the times of its files are not used: time without scans does not count as quiet.
"""

from harvestd.convention.scan.snapshot import Snapshot

_LONGEST_GAP = 900.0
"""Seconds between the ends of two scans, beyond their interval and the duration of the later one, after which the
time between them does not count as observed. A verdict's other queries take minutes on slow machines."""


class IdleTimer:
    """Tracks changes over the scans of one connection; each connection needs a new one."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._moved = 0.0
        self._looked = 0.0

    def looked(self, snapshot: Snapshot, now: float, interval: float, took: float = 0.0) -> None:
        """Record a scan that ended at `now` and took `took` seconds; `interval` is the intended time between scans."""
        self._go_on(now, 2 * interval + took + _LONGEST_GAP)
        if snapshot.changed:
            self._moved = now

    def unchanged(self, at: float, interval: float, took: float) -> None:
        """Record a scan that began at `at` at the earliest and found no change, as `looked` does.

        The time after `at` is not observed yet. A scan older than the last recorded one shows nothing new.
        """
        if at > self._looked:
            self._go_on(at, 2 * interval + took + _LONGEST_GAP)

    def _go_on(self, now: float, longest: float) -> None:
        """Extend the series of scans to `now`; begin another one after a gap of more than `longest` seconds."""
        if self._began is None or now - self._looked > longest:
            self._began = self._moved = now
        self._looked = now

    @property
    def since(self) -> float:
        """The time of the last observed change: monotonic seconds. It stays the same until the next change."""
        return self._moved

    @property
    def began(self) -> float:
        """The start of the uninterrupted series of scans: monotonic seconds."""
        return self._looked if self._began is None else self._began

    @property
    def quiet(self) -> float:
        """Seconds from the last observed change to the last scan."""
        return self._looked - self._moved

    @property
    def watched(self) -> float:
        """Seconds covered by the uninterrupted series of scans."""
        return 0.0 if self._began is None else self._looked - self._began
