"""Progress of large transfers for displays: bytes received, rate, and remaining time."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_WINDOW: Final = 10.0
"""Seconds over which the rate is averaged."""
_STEP: Final = 0.5
"""Seconds between two samples."""


class TransferProgress:
    """Progress of one group of files, such as a checkpoint."""

    def __init__(
        self, host: str, place: str, size: int, here: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Start with `here` of `size` bytes received before; `clock` returns seconds."""
        self.host = host
        self.place = place
        """The remote path; escaped where it is displayed."""
        self.size = size
        self.moved = here
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque([(clock(), here)], maxlen=int(_WINDOW / _STEP) + 1)

    def came(self, size: int) -> None:
        """Count `size` more bytes as received."""
        now = self._clock()
        if now - self._marks[-1][0] >= _STEP:
            self._marks.append((now, self.moved))
        self.moved += size

    @property
    def rate(self) -> float | None:
        """The recent rate in bytes per second; None right after the start."""
        now = self._clock()
        marks = [mark for mark in self._marks if now - mark[0] <= _WINDOW] or [self._marks[-1]]
        since, before = marks[0]
        return (self.moved - before) / (now - since) if now - since >= _STEP else None

    @property
    def seconds_left(self) -> float | None:
        """The seconds that the rest takes at this rate; None if unknown."""
        rate = self.rate
        return max(0, self.size - self.moved) / rate if rate else None


class ActiveTransfers:
    """All large transfers in progress, over all hosts."""

    def __init__(self) -> None:
        self._ways: list[TransferProgress] = []

    @contextmanager
    def of(self, way: TransferProgress) -> Iterator[None]:
        """Include `way` for the body."""
        self._ways.append(way)
        try:
            yield
        finally:
            self._ways.remove(way)

    def all(self) -> tuple[TransferProgress, ...]:
        """Return the transfers in progress, the oldest first."""
        return tuple(self._ways)
