"""Read files from a host in requests, buffered and with a deadline.

Double buffering: small pieces become large writes in a worker thread. One buffer is filled while the other is
written. There are never more than two buffers: adding to a full one waits for the disk, which in turn throttles the
host.
"""

import hashlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from harvestd.convention.metadata.parse import BEGINNING
from harvestd.convention.scan.model import Source
from harvestd.convention.structs import Immutable
from harvestd.errors import unwrapped
from harvestd.harvest.host.failures import FailureTracker
from harvestd.remote.api import Chunk, Closed, Failed, Opened, Reader, ReadRequest
from harvestd.remote.ssh.errors import Stuck

_READINGS = 3
"""The most readings of a file in one scan, until it matches the host's hash."""


Item = TypeVar("Item")


class ReadAnswer(Immutable):
    """The answer to one request, complete."""

    opened: Opened | None
    closed: Closed
    content: bytes


async def _uncounted(_size: int) -> None:
    pass


async def read_each(
    reader: Reader,
    requests: Sequence[tuple[Item, ReadRequest]],
    take: Callable[[Item, ReadAnswer], Awaitable[None]],
    failed: Callable[[Item, str], None],
    stuck: Callable[[Item, Stuck], None],
    received: Callable[[int], Awaitable[None]] = _uncounted,
) -> None:
    """Read files in their order, and call `take` with the answer of each, or `failed` with the reason for none.

    `received` is called with the size of each piece as it arrives. If the reading of a file hangs, `stuck` is called
    with it, and the files after it are not read. Raise `Retry` when the link is lost, and what the callbacks raise.
    """
    waiting = iter(requests)
    opened: Opened | None = None
    content = bytearray()
    try:
        async with reader.reading([request for _, request in requests]) as events:
            async for event in events:
                match event:
                    case Opened():
                        opened = event
                        continue
                    case Chunk(data):
                        content += data
                        await received(len(data))
                        continue
                    case Closed():
                        await take(next(waiting)[0], ReadAnswer(opened, event, bytes(content)))
                    case Failed(_, reason):
                        failed(next(waiting)[0], reason)
                    case _:
                        continue
                opened = None
                content.clear()
    except Stuck as e:
        for item, _ in itertools.islice(waiting, 1):
            stuck(item, e)


async def read_small(reader: Reader, sources: Sequence[Source], failures: FailureTracker) -> dict[Source, bytes]:
    """Return the contents of small files, without those that vanished or changed meanwhile.

    Of a file that is too large to hold facts only the beginning is read, one byte more than the limit, so that parsing
    rejects it. A file that differs from the host's hash is read again, a few times: a name derived from a flipped bit
    would be permanent. A file whose reading hangs is noted in `failures` and skipped for a while; the files after it
    are read at the next scan. Raise `Retry` when the link is lost.
    """
    wanted = [each for each in sources if failures.may_try(each.place)]
    found: dict[Source, bytes] = {}
    for _ in range(_READINGS):
        if wanted:
            wanted = await _read(reader, wanted, found, failures)
    return found


async def _read(
    reader: Reader, sources: Sequence[Source], found: dict[Source, bytes], failures: FailureTracker
) -> list[Source]:
    """Read these files into `found`; return those that must be read again."""
    again: list[Source] = []

    async def take(source: Source, answer: ReadAnswer) -> None:
        closed, content = answer.closed, answer.content
        if closed.sha256 not in {None, hashlib.sha256(content).hexdigest()}:
            again.append(source)
        elif closed.version == source.version and len(content) == min(closed.version.size, BEGINNING):
            found[source] = content
            failures.cleared(source.place)

    def stuck(source: Source, error: Stuck) -> None:
        failures.stuck(source.place, str(error))
        again.clear()

    requests = [(each, ReadRequest(each.tree, each.path, length=BEGINNING)) for each in sources]
    await read_each(reader, requests, take, _skipped, stuck)
    return again


def _skipped(_source: Source, _reason: str) -> None:
    """Read the files after one that can't be read."""


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
