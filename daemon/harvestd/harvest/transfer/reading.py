"""Read files from a host in requests, buffered and with a deadline.

One buffer is filled while the other is written. There are never more than two buffers: adding to a full one waits for
the disk, which in turn throttles the host.
"""

import hashlib
import itertools
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from harvestd.convention.metadata.parse import BEGINNING
from harvestd.convention.scan.model import Source
from harvestd.errors import unwrapped
from harvestd.harvest.host.failures import FailureTracker
from harvestd.remote.api import Chunk, Closed, Failed, Reader, ReadRequest
from harvestd.remote.ssh.errors import Stuck

_READINGS = 3
"""The most readings of a file in one scan, until it matches the host's hash."""


async def read_small(reader: Reader, sources: Sequence[Source], troubles: FailureTracker) -> dict[Source, bytes]:
    """Return the contents of small files, without those that vanished or changed meanwhile.

    Of a file that is too large to hold facts only the beginning is read, one byte more than the limit, so that parsing
    rejects it. A file that differs from the host's hash is read again, a few times: a name derived from a flipped bit
    would be permanent. A file whose reading hangs is noted in `troubles` and skipped for a while; the files after it
    are read at the next scan. Raise `Retry` when the link is lost.
    """
    wanted = [each for each in sources if troubles.may_try(each.place)]
    found: dict[Source, bytes] = {}
    for _ in range(_READINGS):
        if wanted:
            wanted = await _read(reader, wanted, found, troubles)
    return found


async def _read(
    reader: Reader, sources: Sequence[Source], found: dict[Source, bytes], troubles: FailureTracker
) -> list[Source]:
    """Read these files into `found`; return those that must be read again."""
    requests = [ReadRequest(each.tree, each.path, length=BEGINNING) for each in sources]
    again: list[Source] = []
    waiting = iter(sources)
    content = bytearray()
    try:
        async with reader.reading(requests) as events:
            async for event in events:
                match event:
                    case Chunk(data):
                        content += data
                        continue
                    case Closed(_, version, sha256):
                        source = next(waiting)
                        if sha256 not in {None, hashlib.sha256(content).hexdigest()}:
                            again.append(source)
                        elif version == source.version and len(content) == min(version.size, BEGINNING):
                            found[source] = bytes(content)
                            troubles.cleared(source.place)
                    case Failed():
                        next(waiting)
                    case _:
                        pass
                content.clear()
    except Stuck as e:
        for source in itertools.islice(waiting, 1):
            troubles.stuck(source.place, str(e))
        return []
    return again


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
