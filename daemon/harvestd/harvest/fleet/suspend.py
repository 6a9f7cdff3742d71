"""A workstation that sleeps: when it wakes, every link is taken for dead, and nobody waits until that is proven.

CLOCK_BOOTTIME counts on while the machine sleeps and CLOCK_MONOTONIC, which all deadlines here go by, does not: the
distance between the two is the time slept, whatever a person does to the time of day.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import anyio
from msgspec import Struct, field

from harvestd.remote.ssh.connect import Connection
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_LOOK_EVERY = 1.0
"""Seconds between two looks at the clocks; also the shortest sleep that counts as one."""


def slept() -> float:
    """Return the seconds that this machine has slept since it was started."""
    # Whoever is held up between the two readings finds too much: not three times in a row.
    return min(_distance() for _ in range(3))


def _distance() -> float:
    awake = time.clock_gettime(time.CLOCK_MONOTONIC)
    return time.clock_gettime(time.CLOCK_BOOTTIME) - awake


class Waking(Struct):
    """Knows who counts on a link, and interrupts them all when the workstation slept."""

    clock: Callable[[], float] = field(default_factory=lambda: slept)
    """Seconds slept; it only grows."""
    _scopes: set[anyio.CancelScope] = field(default_factory=set)
    _connections: set[Connection] = field(default_factory=set)

    async def run(self) -> None:
        """Look at the clocks until cancelled."""
        before = self.clock()
        while True:
            await anyio.sleep(_LOOK_EVERY)
            now = self.clock()
            if now - before >= _LOOK_EVERY:
                get_logger().info(Event.SERVICE_WOKE, seconds=round(now - before, 1))
                self._interrupt()
            before = now

    def _interrupt(self) -> None:
        # First the sockets: on a dead link a good-bye would be waited for.
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
        """Have a connection ended, without a good-bye, when the workstation wakes during the body."""
        self._connections.add(connection)
        try:
            yield
        finally:
            self._connections.discard(connection)
