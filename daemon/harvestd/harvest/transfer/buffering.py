"""From a stream of small pieces to large writes in a worker thread: while one buffer is written the other one fills.

Holds two buffers and no more: who adds to a full one waits for the disk, and with that the box is held back.
"""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from harvestd.errors import unwrapped

Write = Callable[[memoryview], None]
"""Writes the next bytes, in a worker thread; they must not be kept."""


class Spool:
    """Takes pieces in their order; made by `spooling`."""

    def __init__(self, send: MemoryObjectSendStream[memoryview], size: int) -> None:
        self._send = send
        self._filling = memoryview(bytearray(size))
        self._other = memoryview(bytearray(size))
        self._filled = 0

    def take(self, data: bytes) -> bool:
        """Take the next bytes if there is room for them now; tells whether there was."""
        filled = self._filled + len(data)
        if filled >= len(self._filling):
            return False
        self._filling[self._filled : filled] = data
        self._filled = filled
        return True

    async def add(self, data: bytes) -> None:
        """Take the next bytes; waits while both buffers are full."""
        rest = memoryview(data)
        while rest:
            taken = min(len(rest), len(self._filling) - self._filled)
            self._filling[self._filled : self._filled + taken] = rest[:taken]
            self._filled += taken
            rest = rest[taken:]
            if self._filled == len(self._filling):
                await self._hand_over()

    async def flush(self) -> None:
        """Hand over what was added last; it is written when `spooling` ends."""
        if self._filled:
            await self._hand_over()

    async def _hand_over(self) -> None:
        try:
            # Nobody takes this before the last one is written: from then on its buffer is ours again.
            await self._send.send(self._filling[: self._filled])
        except anyio.BrokenResourceError:
            # Writing failed. Its own error says how, and ends the block in a moment.
            await anyio.sleep_forever()
        self._filling, self._other = self._other, self._filling
        self._filled = 0


@asynccontextmanager
async def spooling(write: Write, wrote: Callable[[], None], size: int) -> AsyncIterator[Spool]:
    """Provide a spool with two buffers of `size` bytes; at the end of the block everything was written.

    `wrote` is called on the loop after each write. Raises what `write` raises, also out of the middle of the block.
    """
    send, receive = anyio.create_memory_object_stream[memoryview](0)
    with unwrapped():
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_drain, receive, write, wrote)
            async with send:
                spool = Spool(send, size)
                yield spool
                await spool.flush()


async def _drain(receive: MemoryObjectReceiveStream[memoryview], write: Write, wrote: Callable[[], None]) -> None:
    async with receive:
        async for piece in receive:
            await anyio.to_thread.run_sync(write, piece)
            wrote()
