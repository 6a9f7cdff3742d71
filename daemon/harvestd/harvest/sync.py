"""Synchronisation of tasks: a versioned broadcast, locks of directories and volumes, work in slices.

One lease a storage: hosts that show the same file system must not fetch the same files at the same time. The lease is
taken without an await in between, so that a cancellation can't leave one behind.
"""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import TypeVar

import anyio
import anyio.lowlevel

from harvestd.convention.structs import Steps


class Broadcast:
    """Counts its rings. A task that remembers the last count that it saw misses no later ring."""

    def __init__(self) -> None:
        self._version = 0
        self._event = anyio.Event()

    @property
    def version(self) -> int:
        """The number of rings so far."""
        return self._version

    def ring(self) -> None:
        """Wake all waiting tasks, and make later calls of `wait` with an older version return at once."""
        self._version += 1
        self._event.set()
        self._event = anyio.Event()

    async def wait(self, newer_than: int) -> int:
        """Return the version as soon as it is greater than `newer_than`."""
        while self._version <= newer_than:
            await self._event.wait()
        return self._version

    async def rung(self) -> None:
        """Return at the next ring.

        Only for tasks that checked their condition just before, without an await in between.
        """
        await self._event.wait()


async def first_of(*waits: Callable[[], Awaitable[object]]) -> None:
    """Return when the first of `waits` returns, and cancel the others. Raise their errors in a group."""
    async with anyio.create_task_group() as tasks:

        async def run(wait: Callable[[], Awaitable[object]]) -> None:
            await wait()
            tasks.cancel_scope.cancel()

        for wait in waits:
            tasks.start_soon(run, wait)


class DirectoryLock:
    """Keeps directories from being renamed while files are published into them. Not reentrant."""

    def __init__(self) -> None:
        self._mover = anyio.Lock()
        self._working = 0
        self._still = anyio.Event()
        self._still.set()
        self._idle = anyio.Event()

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """Hold the lock shared: no directory is renamed during the body."""
        while not self._still.is_set():
            await self._still.wait()
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1
            self._idle.set()

    @asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        """Hold the lock exclusively: nothing is published during the body. Waits for all shared holders."""
        async with self._mover:
            self._still = anyio.Event()
            try:
                while self._working:
                    self._idle = anyio.Event()
                    await self._idle.wait()
                yield
            finally:
                self._still.set()


class Leases:
    """Records which host holds the lease of each storage."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}
        self.released = Broadcast()
        """Rung whenever a lease is released."""

    def is_free(self, storage: str) -> bool:
        """Return whether no host holds the lease of `storage`."""
        return storage not in self._holders

    @contextmanager
    def held(self, storage: str, identity: str) -> Iterator[None]:
        """Hold the lease of `storage` for the body. Raise `RuntimeError` if it is not free."""
        if not self.is_free(storage):
            raise RuntimeError(f"the lease of {storage} is held by {self._holders[storage]}")
        self._holders[storage] = identity
        try:
            yield
        finally:
            del self._holders[storage]
            self.released.ring()

    async def wait_free(self, storage: str) -> None:
        """Return when the lease of `storage` is free; it stays free until the caller's next await."""
        while not self.is_free(storage):
            await self.released.wait(self.released.version)


T = TypeVar("T")
_SLICE = 0.001
"""Seconds for which one computation holds the event loop: another task needs dozens of turns for a single answer."""


async def in_slices(steps: Steps[T]) -> T:
    """Return the result of a computation that yields where it may be interrupted."""
    began = time.perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.perf_counter() - began > _SLICE:
            await anyio.lowlevel.checkpoint()
            began = time.perf_counter()
