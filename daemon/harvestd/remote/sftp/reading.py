"""Read files over SFTP: a few files ahead of the one that is returned, each in rounds of parallel requests.

Memory is bounded: a fixed number of files and blocks is read ahead, and no more is requested while the caller does not
iterate.
"""

import asyncio
import hashlib
import stat
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import aclosing, asynccontextmanager

import anyio
import asyncssh

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.snapshot import Tree
from harvestd.errors import HarvestError
from harvestd.remote.api import Chunk, Closed, Failed, Limits, Opened, ReadEvent, ReadRequest
from harvestd.remote.sftp.scanning import place_of, tree_place
from harvestd.remote.sftp.session import VANISHED, BadAnswer, NoSftp, SftpSession, mode_of, version_of
from harvestd.remote.ssh.connection import Connection
from harvestd.remote.ssh.errors import LinkLost, quoted

_FILES_AHEAD = 8
_BLOCK = 32 * 1024
"""The size that every server returns in one answer."""
_BLOCKS_AT_ONCE = 16
_EVENTS_AHEAD = 4

_Queue = asyncio.Queue[ReadEvent | HarvestError]


class _NotRegular(Exception):
    """The path is no regular file, or a link is on the way to it."""


class SftpReader:
    """Implements `Reader` through a session of its own; one reading at a time, a second one waits for the first."""

    hashes_there = False

    def __init__(self, connection: Connection, limits: Limits) -> None:
        self._connection = connection
        self._limits = limits
        self._session: SftpSession | None = None
        self._lock = anyio.Lock()

    @asynccontextmanager
    async def reading(self, requests: Sequence[ReadRequest]) -> AsyncIterator[AsyncIterator[ReadEvent]]:
        """See `Reader.reading`."""
        async with self._lock:
            run = _Run(await self._started(), requests)
            error: BaseException | None = None
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run.read_ahead)
                try:
                    async with aclosing(run.events()) as events:
                        yield events
                except BaseException as e:  # noqa: BLE001  (raised again below: a task group would wrap it)
                    error = e
                tasks.cancel_scope.cancel()
            if not run.finished:
                # Handles that were being opened are known to the server only; they end with the session.
                self.close()
            if error is not None:
                raise error

    async def _started(self) -> SftpSession:
        if self._session is None or not self._session.alive:
            self.close()
            try:
                self._session = await SftpSession.start(self._connection, self._limits)
            except NoSftp as e:
                raise LinkLost(f"{self._connection.target}: SFTP does not start ({e})") from e
        return self._session

    def close(self) -> None:
        """End the session; the next reading starts another."""
        session, self._session = self._session, None
        if session is not None:
            session.close()


class _Run:
    """One list of requests in progress."""

    def __init__(self, session: SftpSession, requests: Sequence[ReadRequest]) -> None:
        self._session = session
        self._requests = requests
        self._order: asyncio.Queue[_Queue] = asyncio.Queue(_FILES_AHEAD)
        self._trees: dict[Tree, bytes] = {}
        self._directories: set[bytes] = set()
        self.finished = not requests

    async def read_ahead(self) -> None:
        """Start reading the files in their order, bounded by the caller's progress."""
        async with anyio.create_task_group() as files:
            for request in self._requests:
                queue: _Queue = asyncio.Queue(_EVENTS_AHEAD)
                await self._order.put(queue)
                files.start_soon(self._fetch, request, queue)

    async def events(self) -> AsyncGenerator[ReadEvent, None]:
        """Yield all answers in the order of the requests."""
        for left in range(len(self._requests), 0, -1):
            queue = await self._order.get()
            event = None
            while not isinstance(event, Closed | Failed):
                event = await queue.get()
                if isinstance(event, HarvestError):
                    raise event
                self.finished = left == 1 and isinstance(event, Closed | Failed)
                yield event

    async def _fetch(self, request: ReadRequest, queue: _Queue) -> None:
        try:
            await queue.put(await self._read(request, queue))
        except HarvestError as e:
            await queue.put(e)
        except BadAnswer as e:
            await queue.put(self._session.failed(e))
        except _NotRegular:
            await queue.put(Failed(request, "not a regular file"))
        except VANISHED:
            await queue.put(Failed(request, "vanished", vanished=True))
        except asyncssh.SFTPPermissionDenied:
            await queue.put(Failed(request, "permission denied"))
        except asyncssh.SFTPError as e:
            await queue.put(Failed(request, quoted(e.reason) or "failure"))

    async def _read(self, request: ReadRequest, queue: _Queue) -> Closed:
        call, client = self._session.call, self._session.client
        place = await self._checked(request)
        file = await call(client.open(place, asyncssh.FXF_READ, encoding=None, block_size=0))
        try:
            before = version_of(await call(file.stat()))
            verified = None
            if request.verify_from is not None:
                verified = await self._hash(file, request.verify_from, request.offset)
            await queue.put(Opened(request, before, verified))
            end = max(request.offset, before.size)
            if request.length is not None:
                end = min(end, request.offset + request.length)
            async with aclosing(self._blocks(file, request.offset, end)) as blocks:
                async for block in blocks:
                    await queue.put(Chunk(block))
            return Closed(request, version_of(await call(file.stat())), None)
        finally:
            await self._session.put_back(file)

    async def _checked(self, request: ReadRequest) -> bytes:
        """Return the file's absolute path after a check that it is a regular file and no link is on the way to it.

        SFTP has no directory handles: a link that is made after the check is followed. It leads to another file of the
        same user on the same host, so nothing is exposed.
        """
        call, client = self._session.call, self._session.client
        tree = request.tree
        if tree not in self._trees:
            self._trees[tree] = await tree_place(self._session, tree)
        place = self._trees[tree]
        parts = request.path.parts
        for directory in (place, *(place_of(place, RemotePath(parts[:n])) for n in range(1, len(parts)))):
            if directory not in self._directories:
                if not stat.S_ISDIR(mode_of(await call(client.lstat(directory)))):
                    raise _NotRegular
                self._directories.add(directory)
        path = place_of(place, request.path)
        if not stat.S_ISREG(mode_of(await call(client.lstat(path)))):
            raise _NotRegular
        return path

    async def _hash(self, file: asyncssh.SFTPClientFile, start: int, end: int) -> str:
        digest = hashlib.sha256()
        async with aclosing(self._blocks(file, start, end)) as blocks:
            async for block in blocks:
                digest.update(block)
        return digest.hexdigest()

    async def _blocks(self, file: asyncssh.SFTPClientFile, start: int, end: int) -> AsyncGenerator[bytes, None]:
        """Yield the bytes from `start` to `end`, or to the end of the file where it is shorter."""
        while start < end:
            offsets = range(start, min(end, start + _BLOCKS_AT_ONCE * _BLOCK), _BLOCK)
            wanted = [min(_BLOCK, end - offset) for offset in offsets]
            got = await self._round(file, list(zip(offsets, wanted, strict=True)))
            for block, size in zip(got, wanted, strict=True):
                if block:
                    yield block
                if len(block) < size:
                    return
            start += sum(wanted)

    async def _round(self, file: asyncssh.SFTPClientFile, blocks: list[tuple[int, int]]) -> list[bytes]:
        got = [b""] * len(blocks)
        errors: list[HarvestError | asyncssh.SFTPError] = []

        async def one(number: int, offset: int, size: int) -> None:
            try:
                got[number] = await self._session.read(file, offset, size)
            except (HarvestError, asyncssh.SFTPError) as e:
                errors.append(e)

        async with anyio.create_task_group() as tasks:
            for number, (offset, size) in enumerate(blocks):
                tasks.start_soon(one, number, offset, size)
        if errors:
            raise errors[0]
        return got
