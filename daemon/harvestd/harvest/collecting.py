"""Small files, many at a time: read in one answer of the box, held in memory by the group, published in batches.

While one batch is being published the next one is read; no more than `BATCHES` of them are in memory for one host.
"""

import hashlib
import time
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream

from harvestd.convention.plan import FetchFile, FetchGroup
from harvestd.convention.seals import HEAD_BYTES
from harvestd.errors import unwrapped
from harvestd.harvest.house import House
from harvestd.harvest.publisher import Publisher, StagedFile, StagedGroup, reason_to_doubt
from harvestd.harvest.troubles import Troubles
from harvestd.inventory.provider import Host
from harvestd.remote.box import Chunk, Closed, Failed, Opened, Reader, ReadRequest
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged

SMALL = 8 * 1024 * 1024
"""Bytes: a group up to this size is collected in memory; a larger one goes the bulk way."""
BATCH_BYTES = 8 * 1024 * 1024
BATCH_FILES = 512
BATCHES = 3
"""One being published, one waiting, one being read."""
REQUESTS = 2000
"""Files asked for in one reading."""


@dataclass
class _Collected:
    """A group whose files are arriving."""

    group: FetchGroup
    started: float
    contents: dict[FetchFile, bytes] = field(default_factory=dict)
    doubt: str | None = None
    """Why it can't be published as it was read."""

    @property
    def is_whole(self) -> bool:
        return self.doubt is None and len(self.contents) == len(self.group.files)


class Collecting:
    """Fetches small groups from one host."""

    def __init__(self, host: Host, house: House, root: DataRoot, publisher: Publisher, troubles: Troubles) -> None:
        self._host = host
        self._house = house
        self._root = root
        self._publisher = publisher
        self._troubles = troubles

    async def fetch(self, groups: Sequence[FetchGroup], reader: Reader) -> None:
        """Bring these groups home. Raises `Retry` when the link is lost, `HaltedForSafety` when the disk fails.

        A group of which a file can't be read, or changed meanwhile, is left as it was and noted as in trouble.
        """
        size = sum(group.size for group in groups)
        async with self._house.memory.hold(min(size, BATCHES * BATCH_BYTES)):
            send, receive = anyio.create_memory_object_stream[list[_Collected]](BATCHES - 2)
            with unwrapped():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._publish, receive)
                    await self._read(groups, reader, send)

    async def _read(
        self, groups: Sequence[FetchGroup], reader: Reader, send: MemoryObjectSendStream[list[_Collected]]
    ) -> None:
        batch: list[_Collected] = []
        size = files = 0
        async with send:
            for some in _sliced(groups):
                async with aclosing(self._collected(some, reader)) as collecting:
                    async for collected in collecting:
                        batch.append(collected)
                        files += len(collected.contents)
                        size += collected.group.size
                        if size >= BATCH_BYTES or files >= BATCH_FILES:
                            await send.send(batch)
                            batch, size, files = [], 0, 0
            if batch:
                await send.send(batch)

    async def _collected(self, groups: Sequence[FetchGroup], reader: Reader) -> AsyncGenerator[_Collected, None]:
        """Give each group as soon as its last file is here; those in doubt are noted instead."""
        collecting = [_Collected(group, time.monotonic()) for group in groups]
        queue = [(each, file) for each in collecting for file in each.group.files]
        requests = [ReadRequest(f.source.tree, f.source.path, length=f.source.version.size) for _, f in queue]
        waiting = iter(queue)
        content = bytearray()
        opened: Opened | None = None
        async with reader.reading(requests) as events:
            async for event in events:
                match event:
                    case Opened():
                        opened = event
                    case Chunk(data):
                        content += data
                        self._house.monitor.moved(self._host.name, len(data))
                        await self._house.bandwidth.spend(len(data))
                    case Closed() | Failed():
                        collected, file = next(waiting)
                        _take(collected, file, bytes(content), opened, event)
                        content.clear()
                        if file is collected.group.files[-1]:
                            if collected.is_whole:
                                self._troubles.cleared(collected.group.place)
                                yield collected
                            else:
                                self._troubles.failed(collected.group.place, collected.doubt or "not all of it came")

    async def _publish(self, receive: MemoryObjectReceiveStream[list[_Collected]]) -> None:
        async with receive:
            async for batch in receive:
                staged = await anyio.to_thread.run_sync(self._stage, batch)
                await self._publisher.publish(staged)

    def _stage(self, batch: Sequence[_Collected]) -> list[StagedGroup]:
        made: list[Staged] = []
        try:
            return [self._stage_group(collected, made) for collected in batch]
        except BaseException:
            for staged in made:
                staged.discard()
            raise

    def _stage_group(self, collected: _Collected, made: list[Staged]) -> StagedGroup:
        files: list[StagedFile] = []
        for file in collected.group.files:
            copies: list[Staged] = []
            for _ in file.targets:
                staged = self._root.stage()
                made.append(staged)
                staged.write(collected.contents[file])
                copies.append(staged)
            files.append(StagedFile(file, tuple(copies)))
        return StagedGroup(collected.group, tuple(files), collected.started)


def _sliced(groups: Sequence[FetchGroup]) -> Iterator[list[FetchGroup]]:
    some: list[FetchGroup] = []
    files = 0
    for group in groups:
        if some and files + len(group.files) > REQUESTS:
            yield some
            some, files = [], 0
        some.append(group)
        files += len(group.files)
    if some:
        yield some


def _take(collected: _Collected, file: FetchFile, content: bytes, opened: Opened | None, end: Closed | Failed) -> None:
    """Add one file's content to its group, or the reason why the group can't be published."""
    if isinstance(end, Failed) or opened is None:
        collected.doubt = f"{file.source.path.name}: {end.reason if isinstance(end, Failed) else 'no answer'}"
        return
    doubt = reason_to_doubt(file, opened.version, end.version, content[:HEAD_BYTES])
    if doubt is None and len(content) != file.source.version.size:
        doubt = "the box sent another number of bytes than the file has"
    if doubt is None and end.sha256 is not None and hashlib.sha256(content).hexdigest() != end.sha256:
        doubt = "its hash is not the one that the box told"
    if doubt is not None:
        collected.doubt = f"{file.source.path.name}: {doubt}"
        return
    collected.contents[file] = content
