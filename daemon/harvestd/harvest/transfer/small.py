"""Small files, many at a time: read in one answer of the host, held in memory per group, published in batches.

While one batch is published the next one is read. Memory is taken for a group when its first byte is due, and given
back when its batch is in staging, so that a slow host holds little more than the group that is arriving.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

import anyio
import anyio.lowlevel
import anyio.to_thread
from anyio import TASK_STATUS_IGNORED
from anyio.abc import TaskStatus
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from msgspec import Struct, field

from harvestd.convention.scan.completeness import HEAD_BYTES
from harvestd.convention.scan.snapshot import Version
from harvestd.errors import unwrapped
from harvestd.harvest.budgets import MemoryBudget, slices_of, staged_files
from harvestd.harvest.context import Context
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.transfer.publish import Publisher, StagedFile, StagedGroup, inspect, reason_to_doubt
from harvestd.inventory.host import Host
from harvestd.planning.plan import FetchFile, FetchGroup
from harvestd.remote.api import Chunk, Closed, Failed, Opened, Reader, ReadRequest, Whole
from harvestd.remote.ssh.errors import Stuck
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged

SMALL = 8 * 1024 * 1024
"""Bytes: a group up to this size is collected in memory; a larger one is a bulk transfer."""
BATCH_BYTES = 8 * 1024 * 1024
BATCH_FILES = 256
BATCH_SECONDS = 1.0
"""A batch is published as soon as it reaches one of these. The batches of all hosts take turns: a new file of another
host waits for one or two of them."""
REQUESTS = 8000
"""Files requested in one reading."""


class _Collected(Struct):
    """A group whose files are arriving."""

    group: FetchGroup
    started: float
    contents: list[tuple[bytes, str | None]] = field(default_factory=list)
    """The contents of the group's files in their order, each with the hash that the host sent."""
    doubt: str | None = None
    """Why it can't be published as it was read."""

    @property
    def is_whole(self) -> bool:
        return self.doubt is None and len(self.contents) == len(self.group.files)

    def take(self, file: FetchFile, opened: Version, closed: Version, content: bytes, reported: str | None) -> None:
        """Add the next file's content, or set the reason why the group can't be published."""
        doubt = reason_to_doubt(file, opened, closed, content[:HEAD_BYTES])
        if doubt is None and len(content) != file.source.version.size:
            doubt = "the box sent another number of bytes than the file has"
        if doubt is not None:
            self.doubt = f"{file.source.path.name}: {doubt}"
            return
        self.contents.append((content, reported))


class _Slice(Struct):
    """A collected group, or the part of it that belongs to some of its experiments."""

    collected: _Collected
    group: FetchGroup
    is_last: bool


class _Batches:
    """Collected groups on their way to the publisher, and the memory that they take."""

    def __init__(self, memory: MemoryBudget, send: MemoryObjectSendStream[list[_Collected]]) -> None:
        self._memory = memory
        self._send = send
        self._batch: list[_Collected] = []
        self._bytes = self._files = 0
        self._begun = 0.0
        self._taken = 0

    async def make_room(self, group: FetchGroup) -> None:
        """Take the memory for a group.

        The present batch is sent first if this has to wait, so that its memory is released meanwhile.
        """
        if not self._memory.has(group.size):
            await self.flush()
        await self._memory.take(group.size)
        self._taken += group.size

    async def add(self, collected: _Collected) -> None:
        self._begun = self._begun if self._batch else time.monotonic()
        self._batch.append(collected)
        self._bytes += collected.group.size
        self._files += len(collected.group.files)
        is_old = time.monotonic() - self._begun >= BATCH_SECONDS
        if self._bytes >= BATCH_BYTES or self._files >= BATCH_FILES or is_old:
            await self.flush()

    async def flush(self) -> None:
        if self._batch:
            batch, self._batch = self._batch, []
            self._bytes = self._files = 0
            await self._send.send(batch)

    def free(self, group: FetchGroup) -> None:
        """Release the memory of a group that is on disk, or will not be."""
        self._taken -= group.size
        self._memory.give_back(group.size)

    def drop(self, begun: _Collected | None) -> None:
        """Release the memory of a group that was begun and will not be completed, if there is one."""
        if begun is not None:
            self.free(begun.group)

    def free_all(self) -> None:
        self._memory.give_back(self._taken)
        self._taken = 0


class SmallFileFetcher:
    """Fetches the small groups of one host."""

    def __init__(
        self, host: Host, context: Context, root: DataRoot, publisher: Publisher, failures: FailureTracker
    ) -> None:
        self._host = host
        self._context = context
        self._root = root
        self._publisher = publisher
        self._failures = failures

    async def fetch(
        self, groups: Sequence[FetchGroup], reader: Reader, *, task_status: TaskStatus[None] = TASK_STATUS_IGNORED
    ) -> None:
        """Fetch these groups. Raise `Retry` when the link is lost, `HaltedForSafety` when the disk fails.

        A group of which a file can't be read, or changed meanwhile, is not published and is noted as failed. The task
        counts as started when everything is read: the reader is free then, while the last batches are published.
        """
        send, receive = anyio.create_memory_object_stream[list[_Collected]](1)
        batches = _Batches(self._context.budgets.memory, send)
        try:
            with unwrapped():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._publish, receive, batches)
                    # If the receiver is closed, publishing failed: its own error gives the reason.
                    with suppress(anyio.BrokenResourceError):
                        async with send:
                            for some in _sliced(groups):
                                await self._read(some, reader, batches)
                            task_status.started()
                            await batches.flush()
        finally:
            batches.free_all()

    async def _read(self, groups: Sequence[FetchGroup], reader: Reader, batches: _Batches) -> None:
        """Hand over each group as soon as its last file is here; note the doubtful ones instead.

        The files after one whose reading hangs wait for the next scan.
        """
        queue = [(group, file) for group in groups for file in group.files]
        requests = [
            ReadRequest(f.source.tree, f.source.path, length=f.source.version.size, in_one=True) for _, f in queue
        ]
        waiting = iter(queue)
        collected: _Collected | None = None
        opened: Opened | None = None
        pieces: list[bytes] = []
        group, file = next(waiting)
        try:
            async with reader.reading(requests) as events:
                async for event in events:
                    if collected is None:
                        await batches.make_room(group)
                        collected = _Collected(group, time.monotonic())
                    match event:
                        case Whole():
                            await self._moved(len(event.data))
                            collected.take(file, event.version, event.version, event.data, event.sha256.hex())
                        case Opened():
                            opened = event
                            continue
                        case Chunk(data):
                            await self._moved(len(data))
                            pieces.append(data)
                            continue
                        case Closed() if opened is not None:
                            collected.take(file, opened.version, event.version, b"".join(pieces), event.sha256)
                        case Closed() | Failed():
                            collected.doubt = f"{file.source.path.name}: {_reason(event)}"
                    opened = None
                    pieces.clear()
                    if file is group.files[-1]:
                        await self._hand_over(collected, batches)
                        collected = None
                    group, file = next(waiting, (group, file))
        except Stuck as e:
            self._failures.stuck(group.place, f"{file.source.path.name}: {e}")
            batches.drop(collected)

    async def _moved(self, size: int) -> None:
        self._context.monitor.moved(self._host.name, size)
        if self._context.budgets.bandwidth.is_limited:
            await self._context.budgets.bandwidth.spend_first(size)

    async def _hand_over(self, collected: _Collected, batches: _Batches) -> None:
        place = collected.group.place
        if collected.is_whole:
            await batches.add(collected)
        else:
            self._failures.failed(place, collected.doubt or "not all of it came")
            batches.free(collected.group)

    async def _publish(self, receive: MemoryObjectReceiveStream[list[_Collected]], batches: _Batches) -> None:
        async with receive:
            async for batch in receive:
                await self._store(batch, batches)

    async def _store(self, batch: list[_Collected], batches: _Batches) -> None:
        """Stage and publish a batch; the batches of all hosts take turns.

        They take turns since each has a descriptor open for every target. A cancellation can end the wait for the turn,
        or take effect between two slices. It never comes between staging and publishing: staged files are closed only
        by the code that publishes them.
        """
        async with self._context.budgets.storing:
            for slices in _within(self._context.budgets.descriptors.batch, batch):
                with anyio.CancelScope(shield=True):
                    staged = await anyio.to_thread.run_sync(self._stage, slices)
                    for each in slices:
                        if each.is_last:
                            self._note_staged(each.collected, batches)
                    await self._publisher.publish(staged)
                # This releases the contents of the slices that are done.
                slices.clear()
                await anyio.lowlevel.checkpoint()

    def _note_staged(self, collected: _Collected, batches: _Batches) -> None:
        batches.free(collected.group)
        collected.contents.clear()
        if collected.doubt is None:
            self._failures.cleared(collected.group.place)
        else:
            self._failures.failed(collected.group.place, collected.doubt)

    def _stage(self, slices: Sequence[_Slice]) -> list[StagedGroup]:
        made: list[Staged] = []
        try:
            staged = [self._stage_slice(each, made) for each in slices if each.collected.doubt is None]
        except BaseException:
            for each in made:
                each.discard()
            raise
        return [group for group in staged if group is not None]

    def _stage_slice(self, part: _Slice, made: list[Staged]) -> StagedGroup | None:
        """Return a slice in staging; None if the content differs from the host's hash, or is not complete yet."""
        files: list[StagedFile] = []
        collected, group = part.collected, part.group
        contents = collected.contents
        if len(group.files) < len(contents):
            by_source = {file.source: content for file, content in zip(collected.group.files, contents, strict=True)}
            contents = [by_source[file.source] for file in group.files]
        for file, (content, reported) in zip(group.files, contents, strict=True):
            copies = tuple(self._root.stage_whole(content) for _ in file.targets)
            made += copies
            files.append(StagedFile(file, copies))
            doubt = inspect(file, copies[0])
            if reported is not None and copies[0].hexdigest != reported:
                doubt = "its hash is not the one that the box told"
            if doubt is not None:
                collected.doubt = f"{file.source.path.name}: {doubt}"
                for each in (copy for staged in files for copy in staged.copies):
                    each.discard()
                return None
        self._context.evals.arrived(
            [
                (staged.file.source, content, reported or staged.copies[0].hexdigest)
                for staged, (content, reported) in zip(files, contents, strict=True)
            ]
        )
        return StagedGroup(group, tuple(files), collected.started, is_last=part.is_last)


def _reason(end: Closed | Failed) -> str:
    return end.reason if isinstance(end, Failed) else "no answer"


def _within(most: int, batch: list[_Collected]) -> Iterator[list[_Slice]]:
    """Yield a batch in lists of slices with at most `most` staged files each; this empties the batch."""
    some: list[_Slice] = []
    held = 0
    while batch:
        collected = batch.pop(0)
        groups = list(slices_of(collected.group, most))
        for group in groups:
            count = staged_files(group)
            if some and held + count > most:
                yield some
                some, held = [], 0
            some.append(_Slice(collected, group, is_last=group is groups[-1]))
            held += count
    if some:
        yield some


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
