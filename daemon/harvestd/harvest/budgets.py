"""What all hosts share: the memory of their buffers and the line's bandwidth."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class MemoryBudget:
    """Bytes that buffers may hold at once, over all hosts. Who asks for more waits, in turn."""

    def __init__(self, total: int) -> None:
        """`total` in bytes."""
        self.total = total
        self._free = total
        self._changed = anyio.Condition()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes (at most the whole budget) for the length of the block."""
        taken = min(size, self.total)
        async with self._changed:
            while self._free < taken:
                await self._changed.wait()
            self._free -= taken
        try:
            yield
        finally:
            self._free += taken
            with anyio.CancelScope(shield=True):
                async with self._changed:
                    self._changed.notify_all()


class Bandwidth:
    """A rate that all transfers share; without a rate it costs nothing."""

    def __init__(self, rate: int | None) -> None:
        """`rate` in bytes a second; None: unlimited."""
        self._rate = rate
        self._paid_until = 0.0

    async def spend(self, size: int) -> None:
        """Wait until `size` more bytes fit the rate; a second's worth may run ahead."""
        if self._rate is None:
            return
        now = time.monotonic()
        self._paid_until = max(self._paid_until, now - 1.0) + size / self._rate
        if self._paid_until > now:
            await anyio.sleep(self._paid_until - now)
