"""A versioned broadcast: wakes all waiting tasks; tasks that were busy see the newer version later."""

from collections.abc import Awaitable, Callable

import anyio


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
