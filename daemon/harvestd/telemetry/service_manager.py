"""Register the deadlines of waiting tasks, and notify a service manager; see sd_notify(3).

Register the deadlines of waiting tasks, to detect stuck ones. A deadline that passed while its task still waits means
that the task is stuck: it could not be interrupted, or one of its threads hangs. A watchdog checks `overdue` first. A
host that does not answer is no such case: waiting for it ends at its deadline, with an error.

Notify a service manager: ready, reloading, stopping, alive, and one line of status; see sd_notify(3). Without
`NOTIFY_SOCKET` nothing happens. A message that can't be delivered is dropped: a service manager must never block the
daemon or make it fail. `WATCHDOG=1` is sent by the caller that is being watched, never by a thread of its own.
"""

import os
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import timedelta
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


READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


def reloading() -> str:
    """Return the message for a reload that begins now; `READY` ends it."""
    # By this clock systemd distinguishes an old READY from the one that ends the reload.
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def status(line: str) -> str:
    """Return the message for the status line of `systemctl status`."""
    return f"STATUS={' '.join(line.split())}"


def more_time(span: timedelta) -> str:
    """Return the message that requests `span` from now on before a start or a stop counts as hung."""
    return f"EXTEND_TIMEOUT_USEC={span // timedelta(microseconds=1)}"


class ServiceManager:
    """The service manager that started this process; it may accept no notifications."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """Read `NOTIFY_SOCKET` (a path, or `@` and an abstract name), `WATCHDOG_USEC` and `WATCHDOG_PID` of `env`."""
        place = env.get("NOTIFY_SOCKET", "")
        self._address = "\0" + place[1:] if place.startswith("@") else place if place.startswith("/") else ""
        span = env.get("WATCHDOG_USEC", "")
        ours = env.get("WATCHDOG_PID") in {None, str(os.getpid())}
        self.watchdog = timedelta(microseconds=int(span)) if ours and span.isdecimal() and int(span) > 0 else None
        """The process is killed after this long without a message; None: there is no watchdog."""

    @property
    def listens(self) -> bool:
        """Whether messages are sent."""
        return bool(self._address)

    def notify(self, *lines: str) -> None:
        """Send all these lines in one message; never block, never raise."""
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        # No listener, or none that reads: a later message may get through, and this one is dropped.
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as out:
            out.sendto("\n".join(lines).encode(), self._address)
