"""Until when each task must have come round: who waits with a deadline of its own says so here while it waits.

A deadline that passed while its task still waits means that the task is stuck: it could not be interrupted, or a thread
of it hangs. Who feeds a watchdog asks `overdue` first. A box that is silent is no such thing: waiting for it ends by
its deadline, with an error.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

GRACE = 30.0
"""Seconds beyond a deadline within which who waited must have gone on: a loop that is busy turns late."""


class Deadlines:
    """The deadlines of one process, by a clock that stands while the machine sleeps."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` gives seconds."""
        self._clock = clock
        self._numbers = count()
        self._due: dict[int, tuple[float, str]] = {}

    @contextmanager
    def within(self, seconds: float, what: str) -> Iterator[None]:
        """Note that the body is over within `seconds`: it has a deadline of its own, this one only watches it.

        `what` is said to people, should it not be so.
        """
        number = next(self._numbers)
        self._due[number] = (self._clock() + seconds, what)
        try:
            yield
        finally:
            del self._due[number]

    def overdue(self) -> str:
        """Say what should have been over longest ago; empty where all is in time."""
        if not self._due:
            return ""
        due, what = min(self._due.values())
        return what if due + GRACE < self._clock() else ""
