"""Large groups: streamed to staging over connections of their own, so that a checkpoint never holds up a metric.

What is on disk is journalled as it comes: after a lost link or a restart the transfer goes on where it was, once the
box has hashed the same prefix.
"""

import hashlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.to_thread
from anyio.abc import TaskGroup, TaskStatus

from harvestd.catalogue.catalogue import Transfer
from harvestd.convention.paths import encoded
from harvestd.convention.plan import FetchFile, FetchGroup
from harvestd.convention.seals import HEAD_BYTES
from harvestd.errors import Retry, unwrapped
from harvestd.harvest.bell import Bell
from harvestd.harvest.house import House
from harvestd.harvest.publisher import Publisher, StagedFile, StagedGroup, reason_to_doubt
from harvestd.harvest.troubles import Troubles
from harvestd.inventory.provider import Host
from harvestd.remote.box import Box, Chunk, Closed, Failed, Opened, Reader, ReadRequest
from harvestd.remote.connecting import connect
from harvestd.remote.opening import open_reader
from harvestd.store.failures import DiskFull
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged

WRITE = 1024 * 1024
"""Bytes that are gathered for one write in a worker thread."""
JOURNAL = 64 * 1024 * 1024
"""Bytes after which a transfer is synced and journalled."""
WINDOW = 16 * 1024 * 1024
"""Bytes in flight on a bulk connection, at the most; the memory budget may allow fewer."""
_LAST_WORDS = 2.0
"""Seconds for syncing what is half here when the process is told to end."""


@dataclass(frozen=True, slots=True)
class _Doubtful(Exception):
    reason: str


class Bulk:
    """Fetches large groups from one host, in order of value, beside everything else."""

    def __init__(
        self, host: Host, house: House, root: DataRoot, box: Box, publisher: Publisher, troubles: Troubles
    ) -> None:
        self._host = host
        self._house = house
        self._root = root
        self._box = box
        self._publisher = publisher
        self._troubles = troubles
        self._tasks: TaskGroup | None = None
        self._idle: list[Reader] = []
        self._places = anyio.CapacityLimiter(house.settings.limits.bulk_connections_per_host)
        self._queue: list[FetchGroup] = []
        self._current: FetchGroup | None = None
        self._woken = anyio.Event()
        self.progressed = Bell()
        """Rung whenever a group is done or given up."""

    @property
    def busy(self) -> bool:
        """Whether anything is under way or waiting."""
        return self._current is not None or bool(self._queue)

    def offer(self, groups: Sequence[FetchGroup]) -> None:
        """Take these groups for what is wanted now, in place of those that were waiting."""
        under_way = self._current.place if self._current else None
        self._queue = [group for group in groups if group.place != under_way]
        if self._queue:
            self._woken.set()

    async def run(self) -> None:
        """Work until cancelled; ends with `HaltedForSafety` or `HostQuarantined` where nothing else will do."""
        with unwrapped():
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                while True:
                    while not self._queue:
                        self._woken = anyio.Event()
                        await self._woken.wait()
                    self._current = self._queue.pop(0)
                    await self._fetch_noting(self._current)
                    self._current = None
                    self.progressed.ring()

    async def _fetch_noting(self, group: FetchGroup) -> None:
        try:
            with unwrapped():
                await self._fetch(group)
        except _Doubtful as e:
            self._troubles.failed(group.place, e.reason)
        except Retry as e:
            self._troubles.failed(group.place, str(e))
        except DiskFull:
            self._troubles.failed(group.place, "no room on the data root's disk")
        else:
            self._troubles.cleared(group.place)

    async def _fetch(self, group: FetchGroup) -> None:
        started = time.monotonic()
        staged: dict[FetchFile, Staged] = {}
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._fetch_files, [file for file in group.files if _size(file) < WRITE], staged)
                for file in group.files:
                    if _size(file) >= WRITE:
                        tasks.start_soon(self._fetch_files, [file], staged)
            files = tuple([await self._with_copies(file, staged[file]) for file in group.files])
            names = [staged[file].name for file in group.files]
            await self._publisher.publish([StagedGroup(group, files, started)])
            await self._house.catalogue.drop_transfers(names)
        finally:
            for each in staged.values():
                each.close()

    async def _with_copies(self, file: FetchFile, staged: Staged) -> StagedFile:
        copies = [await anyio.to_thread.run_sync(self._copy, staged) for _ in file.targets[1:]]
        return StagedFile(file, (staged, *copies))

    def _copy(self, staged: Staged) -> Staged:
        copy = self._root.stage()
        for start in range(0, staged.size, WRITE):
            copy.write(staged.read(start, WRITE))
        return copy

    async def _fetch_files(self, files: Sequence[FetchFile], staged: dict[FetchFile, Staged]) -> None:
        if not files:
            return
        async with self._places, self._reader() as reader:
            for file in files:
                await self._fetch_file(file, staged, reader)

    async def _fetch_file(self, file: FetchFile, staged: dict[FetchFile, Staged], reader: Reader) -> None:
        name = _name(self._host, file)
        synced = await self._synced(file, name)
        staged[file] = await anyio.to_thread.run_sync(self._resumed, name, synced)
        try:
            if not await self._stream(file, staged[file], reader):
                staged[file].discard()
                staged[file] = await anyio.to_thread.run_sync(self._root.stage, name)
                await self._stream(file, staged[file], reader)
        finally:
            with anyio.move_on_after(_LAST_WORDS, shield=True):
                await self._journal(file, staged[file])

    async def _synced(self, file: FetchFile, name: str) -> int:
        """Give the bytes that are journalled for this transfer; what is left of other versions' is dropped."""
        storage = self._house.storage_of(self._host)
        known = [each for each in await self._house.catalogue.transfers() if each.storage == storage]
        here = [each for each in known if each.place == file.source.place]
        stale = [each.name for each in here if each.name != name]
        for other in stale:
            self._root.staging.discard(other)
        if stale:
            await self._house.catalogue.drop_transfers(stale)
        return next((each.synced for each in here if each.name == name), 0)

    def _resumed(self, name: str, synced: int) -> Staged:
        staged = self._root.resume(name, synced) if synced else None
        if staged is None:
            self._root.staging.discard(name)
            staged = self._root.stage(name)
        return staged

    async def _stream(self, file: FetchFile, staged: Staged, reader: Reader) -> bool:
        """Bring the rest of one file to staging; False where what was staged before is not its beginning.

        Raises `_Doubtful` where it must not be published, `Retry` where the link is lost.
        """
        source = file.source
        start = staged.size
        request = ReadRequest(source.tree, source.path, start, source.version.size - start, 0 if start else None)
        fresh = hashlib.sha256()
        buffer = bytearray()
        opened: Opened | None = None
        journalled = start
        async with reader.reading([request]) as events:
            async for event in events:
                match event:
                    case Opened():
                        opened = event
                        if start and event.verified != staged.hexdigest:
                            return False
                        self._house.monitor.moved(self._host.name, start)
                    case Chunk(data):
                        buffer += data
                        self._house.monitor.moved(self._host.name, len(data))
                        await self._house.bandwidth.spend(len(data))
                        if len(buffer) >= WRITE:
                            await anyio.to_thread.run_sync(_write, staged, fresh, bytes(buffer))
                            buffer.clear()
                        if staged.size - journalled >= JOURNAL:
                            await self._journal(file, staged)
                            journalled = staged.size
                    case Failed(_, reason):
                        raise _Doubtful(f"{source.path.name}: {reason}")
                    case Closed(_, version, digest):
                        await anyio.to_thread.run_sync(_write, staged, fresh, bytes(buffer))
                        self._believe(file, staged, opened, version == source.version)
                        if digest is not None and fresh.hexdigest() != digest:
                            staged.discard()
                            raise _Doubtful(f"{source.path.name}: its hash is not the one that the box told")
        return True

    def _believe(self, file: FetchFile, staged: Staged, opened: Opened | None, steady: object) -> None:
        name = file.source.path.name
        if opened is None or not steady or staged.size != file.source.version.size:
            staged.discard()
            raise _Doubtful(f"{name}: it changed on the box while it was read")
        doubt = reason_to_doubt(file, opened.version, file.source.version, staged.read(0, HEAD_BYTES))
        if doubt is not None:
            raise _Doubtful(f"{name}: {doubt}")

    async def _journal(self, file: FetchFile, staged: Staged) -> None:
        if staged.size and not staged.closed:
            await anyio.to_thread.run_sync(staged.sync)
            storage = self._house.storage_of(self._host)
            transfer = Transfer(staged.name, storage, file.source.place, staged.size)
            await self._house.catalogue.save_transfer(transfer)

    @asynccontextmanager
    async def _reader(self) -> AsyncIterator[Reader]:
        """Lend a reader on a bulk connection, opening one where all are in use; one that failed is not used again."""
        reader = self._idle.pop() if self._idle else await self._open_reader()
        yield reader
        self._idle.append(reader)

    async def _open_reader(self) -> Reader:
        if self._tasks is None:
            raise RuntimeError("bulk transfers run within `run`")
        reader: Reader = await self._tasks.start(self._hold_connection)
        return reader

    async def _hold_connection(self, *, task_status: TaskStatus[Reader]) -> None:
        """Keep one bulk connection open for as long as the host is watched; who reads on it hears of its end."""
        house = self._house
        window = min(WINDOW, house.memory.total // (4 * house.settings.limits.bulk_connections_per_host))
        async with AsyncExitStack() as stack:
            async with house.connecting:
                connecting = connect(house.target_of(self._host), house.catalogue, window=window)
                connection = await stack.enter_async_context(connecting)
            reader = await stack.enter_async_context(open_reader(connection, self._box, house.limits))
            task_status.started(reader)
            await connection.wait_closed()
            if reader in self._idle:
                self._idle.remove(reader)


def _write(staged: Staged, fresh: "hashlib._Hash", data: bytes) -> None:
    staged.write(data)
    fresh.update(data)


def _size(file: FetchFile) -> int:
    return file.source.version.size


def _name(host: Host, file: FetchFile) -> str:
    """Name a transfer by what it brings: another version of the file is another transfer."""
    version = file.source.version
    key = f"{host.identity}\0{file.source.place}\0{version.size}\0{version.mtime_ns}\0{version.inode}"
    return "transfer-" + hashlib.sha256(encoded(key)).hexdigest()[:32]
