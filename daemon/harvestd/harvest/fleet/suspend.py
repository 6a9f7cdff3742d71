"""Detects suspends of the workstation: on wake-up all links count as dead, without waiting for proof.

CLOCK_BOOTTIME advances while the machine is suspended; CLOCK_MONOTONIC, which all deadlines here use, does not. Their
difference is the time suspended, whatever is done to the time of day.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
from msgspec import Struct, field

from harvestd.remote.ssh.connection import Connection
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_LOOK_EVERY = 1.0
"""Seconds between two readings of the clocks; also the shortest suspend that counts."""


def slept() -> float:
    """Return the seconds that this machine was suspended since it was started."""
    # A delay between the two readings makes one result too large, but not three in a row.
    return min(_distance() for _ in range(3))


def _distance() -> float:
    awake = time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - awake


class SuspendDetector(Struct):
    """Interrupts all tasks that rely on a link when the workstation was suspended."""

    clock: Callable[[], float] = field(default_factory=lambda: slept)
    """Returns the seconds suspended, which never decrease."""
    _scopes: set[anyio.CancelScope] = field(default_factory=set)
    _connections: set[Connection] = field(default_factory=set)

    async def run(self) -> None:
        """Read the clocks until cancelled."""
        before = self.clock()
        while True:
            await anyio.sleep(_LOOK_EVERY)
            now = self.clock()
            if now - before >= _LOOK_EVERY:
                get_logger().info(Event.SERVICE_WOKE, seconds=round(now - before, 1))
                self._interrupt()
            before = now

    def _interrupt(self) -> None:
        # First the sockets: on a dead link, a regular close would wait for the other side.
        for connection in tuple(self._connections):
            connection.abort()
        for scope in tuple(self._scopes):
            scope.cancel()

    @contextmanager
    def until_woken(self) -> Iterator[anyio.CancelScope]:
        """Provide a scope for the body, which is cancelled when the workstation wakes."""
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                yield scope
            finally:
                self._scopes.discard(scope)

    @contextmanager
    def ending(self, connection: Connection) -> Iterator[None]:
        """Abort a connection, without a regular close, when the workstation wakes during the body."""
        self._connections.add(connection)
        try:
            yield
        finally:
            self._connections.discard(connection)
