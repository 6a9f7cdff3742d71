"""What is on its way in large pieces, for people who watch: how much of it came, how fast, and how long it takes."""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

_WINDOW: Final = 10.0
"""Seconds over which a rate is meant."""
_STEP: Final = 0.5
"""Seconds between two marks on the way."""


class Way:
    """One group of files that is coming: a checkpoint, say."""

    def __init__(
        self, host: str, place: str, size: int, here: int = 0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """Begin, where `here` of its `size` bytes came before; `clock` gives seconds."""
        self.host = host
        self.place = place
        """On the box; escaped where it is shown."""
        self.size = size
        self.moved = here
        self._clock = clock
        self._marks: deque[tuple[float, int]] = deque([(clock(), here)], maxlen=int(_WINDOW / _STEP) + 1)

    def came(self, size: int) -> None:
        """Count bytes that came."""
        now = self._clock()
        if now - self._marks[-1][0] >= _STEP:
            self._marks.append((now, self.moved))
        self.moved += size

    @property
    def rate(self) -> float | None:
        """Bytes a second, lately; None: it has only just begun."""
        now = self._clock()
        marks = [mark for mark in self._marks if now - mark[0] <= _WINDOW] or [self._marks[-1]]
        since, before = marks[0]
        return (self.moved - before) / (now - since) if now - since >= _STEP else None

    @property
    def seconds_left(self) -> float | None:
        """How long the rest takes at this rate; None: nobody knows."""
        rate = self.rate
        return max(0, self.size - self.moved) / rate if rate else None


class UnderWay:
    """All of it, over all hosts."""

    def __init__(self) -> None:
        self._ways: list[Way] = []

    @contextmanager
    def of(self, way: Way) -> Iterator[None]:
        """Show it for the body."""
        self._ways.append(way)
        try:
            yield
        finally:
            self._ways.remove(way)

    def all(self) -> tuple[Way, ...]:
        """Return what is on its way now, what began first in front."""
        return tuple(self._ways)
