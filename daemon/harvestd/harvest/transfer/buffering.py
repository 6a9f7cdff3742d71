"""Double buffering: small pieces become large writes in a worker thread.

One buffer is filled while the other is written. There are never more than two buffers: adding to a full one waits for
the disk, which in turn throttles the host.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from harvestd.errors import unwrapped

Write = Callable[[memoryview], None]
"""Writes the next bytes, in a worker thread; must not keep them."""


class DoubleBuffer:
    """Takes pieces in order; `spooling` creates it."""

    def __init__(self, send: MemoryObjectSendStream[memoryview], size: int) -> None:
        self._send = send
        self._filling = memoryview(bytearray(size))
        self._other = memoryview(bytearray(size))
        self._filled = 0

    def take(self, data: bytes) -> bool:
        """Add the next bytes if they fit without waiting; return whether they did."""
        filled = self._filled + len(data)
        if filled >= len(self._filling):
            return False
        self._filling[self._filled : filled] = data
        self._filled = filled
        return True

    async def add(self, data: bytes) -> None:
        """Add the next bytes; wait while both buffers are full."""
        rest = memoryview(data)
        while rest:
            taken = min(len(rest), len(self._filling) - self._filled)
            self._filling[self._filled : self._filled + taken] = rest[:taken]
            self._filled += taken
            rest = rest[taken:]
            if self._filled == len(self._filling):
                await self._hand_over()

    async def flush(self) -> None:
        """Hand over the last bytes; they are written by the end of `spooling`."""
        if self._filled:
            await self._hand_over()

    async def _hand_over(self) -> None:
        try:
            # This returns once the previous buffer was written; from then on that buffer can be filled again.
            await self._send.send(self._filling[: self._filled])
        except anyio.BrokenResourceError:
            # Writing failed. Its own error is about to end the block.
            await anyio.sleep_forever()
        self._filling, self._other = self._other, self._filling
        self._filled = 0


@asynccontextmanager
async def spooling(write: Write, wrote: Callable[[], None], size: int) -> AsyncIterator[DoubleBuffer]:
    """Provide a spool with two buffers of `size` bytes; at the end of the block everything is written.

    `wrote` is called on the event loop after each write. Raise what `write` raises, possibly in the middle of the
    block.
    """
    send, receive = anyio.create_memory_object_stream[memoryview](0)
    with unwrapped():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_drain, receive, write, wrote)
            async with send:
                spool = DoubleBuffer(send, size)
                yield spool
                await spool.flush()


async def _drain(receive: MemoryObjectReceiveStream[memoryview], write: Write, wrote: Callable[[], None]) -> None:
    async with receive:
        async for piece in receive:
            await anyio.to_thread.run_sync(write, piece)
            wrote()
