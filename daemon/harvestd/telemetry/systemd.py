"""What a service manager is told: ready, reloading, stopping, alive, and one line of status. sd_notify(3), in short.

Without `NOTIFY_SOCKET` nothing happens. A word that can't be delivered is dropped: it never holds up the daemon, which
must not fail because of who watches it. Who calls `tell` is the one that lives: no thread of its own says `WATCHDOG=1`.
"""

import os
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from datetime import timedelta

READY = "READY=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"


def reloading() -> str:
    """Return the word for a reload that begins now; `READY` ends it."""
    # systemd tells an old READY from the one that ends the reload by this clock.
    return f"RELOADING=1\nMONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}"


def status(line: str) -> str:
    """Return the word for what `systemctl status` shows."""
    return f"STATUS={' '.join(line.split())}"


def more_time(span: timedelta) -> str:
    """Return the word that asks for `span` from now on before a start or a stop counts as hung."""
    return f"EXTEND_TIMEOUT_USEC={span // timedelta(microseconds=1)}"


class ServiceManager:
    """Who started us, if it wants to hear."""

    def __init__(self, env: Mapping[str, str]) -> None:
        """Read `NOTIFY_SOCKET` (a path, or `@` and an abstract name), `WATCHDOG_USEC` and `WATCHDOG_PID` of `env`."""
        place = env.get("NOTIFY_SOCKET", "")
        self._address = "\0" + place[1:] if place.startswith("@") else place if place.startswith("/") else ""
        span = env.get("WATCHDOG_USEC", "")
        ours = env.get("WATCHDOG_PID") in {None, str(os.getpid())}
        self.watchdog = timedelta(microseconds=int(span)) if ours and span.isdecimal() and int(span) > 0 else None
        """We are killed when we were silent for this long; None: nobody minds."""

    @property
    def listens(self) -> bool:
        """Whether anybody is told anything."""
        return bool(self._address)

    def tell(self, *words: str) -> None:
        """Say all these words in one message; never blocks, never raises."""
        if not self._address:
            return
        kind = socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
        # Nobody there, or nobody who reads: the next word may get through, and this one is worth no trouble.
        with suppress(OSError), socket.socket(socket.AF_UNIX, kind) as out:
            out.sendto("\n".join(words).encode(), self._address)
