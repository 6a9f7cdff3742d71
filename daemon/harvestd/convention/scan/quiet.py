"""For how long nothing has moved on one host, by our own looks on our own clock; pure, but for what it was told before.

A box's own clock and its files' times have no say: what nobody watched was not still.
"""

from harvestd.convention.scan.snapshot import Snapshot

_LONGEST_GAP = 900.0
"""Seconds between the ends of two scans, beyond their interval and the time that the later one took, after which the
time between them does not count as watched. What a verdict asks beside the trees takes minutes on slow machines."""


class Stillness:
    """Hears of each look at a host while one connection lasts; made anew for the next."""

    def __init__(self) -> None:
        self._began: float | None = None
        self._moved = 0.0
        self._looked = 0.0

    def looked(self, snapshot: Snapshot, now: float, interval: float, took: float = 0.0) -> None:
        """Take in a scan that was complete at `now` and took `took` seconds; scans are meant to be `interval` apart."""
        if self._began is None or now - self._looked > 2 * interval + took + _LONGEST_GAP:
            self._began = self._moved = now
        elif snapshot.changed:
            self._moved = now
        self._looked = now

    @property
    def since(self) -> float:
        """The moment of the last change that was seen: monotonic seconds. It stays the same until there is another."""
        return self._moved

    @property
    def began(self) -> float:
        """Since when looks have followed each other without a break: monotonic seconds."""
        return self._looked if self._began is None else self._began

    @property
    def quiet(self) -> float:
        """Seconds from the last change that was seen to the last look."""
        return self._looked - self._moved

    @property
    def watched(self) -> float:
        """Seconds for which looks have followed each other without a break."""
        return 0.0 if self._began is None else self._looked - self._began
