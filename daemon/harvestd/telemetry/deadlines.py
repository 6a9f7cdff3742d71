"""Register the deadlines of waiting tasks, to detect stuck ones.

A deadline that passed while its task still waits means that the task is stuck: it could not be interrupted, or one of
its threads hangs. A watchdog checks `overdue` first. A host that does not answer is no such case: waiting for it ends
at its deadline, with an error.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count

GRACE = 30.0
"""Seconds beyond a deadline after which a task counts as stuck: a busy event loop resumes tasks late."""


class Deadlines:
    """The deadlines of one process, by a clock that stops while the machine sleeps."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Start without deadlines. `clock` returns seconds."""
        self._clock = clock
        self._numbers = count()
        self._due: dict[int, tuple[float, str]] = {}

    @contextmanager
    def within(self, seconds: float, what: str) -> Iterator[Callable[[float], None]]:
        """Register that the body ends within `seconds`: it has a deadline of its own, which is only monitored here.

        `what` is the text for people if it does not end. Provide a function that sets other seconds from its call on.
        """
        number = next(self._numbers)

        def renew(seconds: float) -> None:
            self._due[number] = (self._clock() + seconds, what)

        renew(seconds)
        try:
            yield renew
        finally:
            del self._due[number]

    def overdue(self) -> str:
        """Return the `what` of the earliest missed deadline; empty where there is none."""
        if not self._due:
            return ""
        due, what = min(self._due.values())
        return what if due + GRACE < self._clock() else ""
