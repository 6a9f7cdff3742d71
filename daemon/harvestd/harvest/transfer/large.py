"""Large groups: streamed to staging over separate connections, so that a checkpoint never delays metrics.

One group at a time for each host, in order of value; its large files are fetched in parallel.
"""

import time
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup

from harvestd.convention.scan.snapshot import Snapshot
from harvestd.errors import DiskFull, Retry, unwrapped
from harvestd.harvest.budgets import staged_files
from harvestd.harvest.context import Context
from harvestd.harvest.fleet.connections import linked
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.sync import Broadcast
from harvestd.harvest.transfer.download import ReadMismatch
from harvestd.harvest.transfer.pool import BulkConnection, ConnectionPool, TransferProgress
from harvestd.harvest.transfer.publish import Publisher, StagedFile, StagedGroup
from harvestd.harvest.transfer.resume import PART, Parts, ResumeJournal
from harvestd.inventory.host import Host
from harvestd.planning.plan import FetchFile, FetchGroup
from harvestd.remote.api import Box
from harvestd.remote.open import open_reader
from harvestd.store.errors import Conflict, Refused
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged

_PIECE = 1024 * 1024
"""Bytes that are copied at a time for a file with several targets."""


class LargeFileFetcher:
    """Fetches the large groups of one host in order of value, concurrently with everything else."""

    def __init__(
        self, host: Host, context: Context, root: DataRoot, box: Box, publisher: Publisher, failures: FailureTracker
    ) -> None:
        self._host = host
        self._context = context
        self._root = root
        self._box = box
        self._publisher = publisher
        self._failures = failures
        self._transfers = ResumeJournal(host, context, root)
        self._queue: list[FetchGroup] = []
        self._current: FetchGroup | None = None
        self._scope = anyio.CancelScope()
        """The cancel scope of the current group."""
        self._reserved = 0
        self._progress = TransferProgress(host.name, "", 0)
        """The progress of the current group."""
        self._woken = anyio.Event()
        self.without_room: set[str] = set()
        """Remote paths of the groups that wait for room on the disk."""
        self.progressed = Broadcast()
        """Rung whenever a group is done or given up."""

    @property
    def busy(self) -> bool:
        """Whether a group is being fetched or is queued."""
        return self._current is not None or bool(self._queue)

    def set_queue(self, groups: Sequence[FetchGroup]) -> None:
        """Replace the queue with `groups`, in order of value."""
        under_way = self._current.place if self._current else None
        self._queue = [group for group in groups if group.place != under_way]
        self.without_room &= {group.place for group in self._queue}
        if self._queue:
            self._woken.set()

    def set_queue_now(self, groups: Sequence[FetchGroup]) -> None:
        """Replace the queue with `groups`, and interrupt the current group if another one now comes before it.

        The interrupted group resumes later. For a host that may end at any moment.
        """
        places = [group.place for group in groups]
        if self._current is not None and self._current.place in places[1:]:
            self._queue = list(groups)
            self._scope.cancel()
        else:
            self.set_queue(groups)

    def pause(self) -> None:
        """Interrupt the current group, to be resumed later, and clear the queue."""
        self._queue = []
        self._scope.cancel()

    async def drop_below(self, places: Collection[str]) -> None:
        """Stop fetching below these directories, and discard the staged bytes of their files."""
        above = tuple(f"{place}/" for place in places)
        if self._current is not None and self._current.place.startswith(above):
            self._scope.cancel()
            return  # its staged bytes are dropped at the next scan
        await self._transfers.drop_below(above)

    async def drop_gone(self, snapshot: Snapshot) -> None:
        """Discard staged bytes of files that this scan no longer shows."""
        busy = {file.source.place for file in self._current.files} if self._current else set[str]()
        await self._transfers.drop_gone(snapshot, busy)

    async def run(self) -> None:
        """Fetch queued groups until cancelled. Raise `HaltedForSafety`, or `HostQuarantined`."""
        with unwrapped():
            async with anyio.create_task_group() as tasks:
                lanes = self._lanes(tasks)
                while True:
                    while not self._queue:
                        lanes.release()
                        self._woken = anyio.Event()
                        await self._woken.wait()
                        lanes = self._lanes(tasks)
                    self._current = self._queue.pop(0)
                    if not self._is_here(self._current):
                        with anyio.CancelScope() as self._scope:
                            await self._fetch_noting(self._current, lanes)
                    self._current = None
                    self.progressed.ring()

    def _lanes(self, tasks: TaskGroup) -> ConnectionPool:
        most = self._context.settings.limits.bulk_connections_per_host
        return ConnectionPool(most, self._context.budgets.bulk, self._line, tasks, self._box.round_trip)

    @asynccontextmanager
    async def _line(self, window: int) -> AsyncIterator[BulkConnection]:
        """Open a connection for bulk transfers."""
        context = self._context
        async with AsyncExitStack() as stack:
            connection = await stack.enter_async_context(linked(self._host, context, window, context.links.bulk_hops))
            reader = await stack.enter_async_context(open_reader(connection, self._box, context.limits))
            yield BulkConnection(reader, connection.wait_closed)

    def _is_here(self, group: FetchGroup) -> bool:
        """Return whether the group was published since it was planned: the plan may be older than its last transfer."""
        known = self._context.catalogue.knowledge
        storage = self._context.storage_of(self._host)
        records = (
            (file, known.file(storage, file.source.place, target.path))
            for file in group.files
            for target in file.targets
        )
        return all(record is not None and record.version == file.source.version for file, record in records)

    async def _fetch_noting(self, group: FetchGroup, lanes: ConnectionPool) -> None:
        try:
            with unwrapped():
                if not await self._has_room(group):
                    return
                # Each staged file holds a descriptor from its first byte until all are published.
                held = self._context.budgets.descriptors.bulk.hold(staged_files(group))
                with self._context.transfers.of(self._progress):
                    async with held, self._context.budgets.room.above_floor(self._root):
                        await self._fetch(group, lanes)
        except (ReadMismatch, Retry, Conflict, Refused) as e:
            self._failures.failed(group.place, str(e))
        except DiskFull:
            # Partly fetched files take the room that smaller files need.
            await self._transfers.drop_files(group.files)
            self._context.budgets.room.ran_full()
            await self._refuse(group)
            self._failures.failed(group.place, "no room on the data root's disk")
        else:
            self._failures.cleared(group.place)
            self._context.budgets.room.proved()
        finally:
            self._context.budgets.room.reserve(-self._reserved)
            self._reserved = 0

    async def _has_room(self, group: FetchGroup) -> bool:
        self.without_room.discard(group.place)
        needed = group.size - await self._transfers.staged(group.files)
        if await self._context.budgets.room.left(self._root) < needed:
            await self._refuse(group)
            return False
        self._reserved = needed
        self._context.budgets.room.reserve(needed)
        self._progress = TransferProgress(self._host.name, group.place, group.size, group.size - needed)
        return True

    async def _refuse(self, group: FetchGroup) -> None:
        self.without_room.add(group.place)
        await self._context.budgets.room.refuse(self._root, group.size)

    def _count_received(self, size: int) -> None:
        self._context.monitor.moved(self._host.name, size)
        self._landed(size)

    def _landed(self, size: int) -> None:
        """Count bytes that are on the disk, whatever their source."""
        self._progress.add(size)
        written = min(size, self._reserved)
        self._reserved -= written
        self._context.budgets.room.reserve(-written)

    async def _fetch(self, group: FetchGroup, lanes: ConnectionPool) -> None:
        started = time.monotonic()
        staged: dict[FetchFile, Staged] = {}
        copies: list[Staged] = []
        try:
            parts = [file for file in group.files if file.source.version.size < PART]
            async with anyio.create_task_group() as tasks:
                if lanes.worthwhile(group.size) == 1:
                    # One after the other on one connection.
                    await self._fetch_parts(parts, staged, lanes)
                    parts = []
                tasks.start_soon(self._fetch_parts, parts, staged, lanes)
                for file in group.files:
                    if file.source.version.size >= PART:
                        tasks.start_soon(self._fetch_large, file, staged, lanes)
            files = [await self._with_copies(file, staged[file], copies) for file in group.files]
            names = [staged[file].name for file in group.files]
            with anyio.CancelScope(shield=True):
                await self._publisher.publish([StagedGroup(group, tuple(files), started)])
                await self._context.catalogue.transfers.drop(names)
        finally:
            for each in (*staged.values(), *copies):
                if not each.closed:
                    each.close()

    async def _fetch_parts(
        self, files: Sequence[FetchFile], staged: dict[FetchFile, Staged], lanes: ConnectionPool
    ) -> None:
        if files:
            await Parts(self._root, staged, self._context.budgets.bandwidth, self._count_received).bring(files, lanes)

    async def _fetch_large(self, file: FetchFile, staged: dict[FetchFile, Staged], lanes: ConnectionPool) -> None:
        staged[file] = await self._transfers.bring(file, lanes, self._count_received, self._landed)

    async def _with_copies(self, file: FetchFile, staged: Staged, copies: list[Staged]) -> StagedFile:
        made = [await anyio.to_thread.run_sync(self._copy, staged, copies) for _ in file.targets[1:]]
        return StagedFile(file, (staged, *made))

    def _copy(self, staged: Staged, copies: list[Staged]) -> Staged:
        copy = self._root.stage()
        copies.append(copy)
        for start in range(0, staged.size, _PIECE):
            copy.write(staged.read(start, _PIECE))
        return copy
