"""A box with one file, far away, and the lanes to it."""

import hashlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import anyio
import anyio.lowlevel

from harvestd.convention.kinds import Kind
from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.model import Source
from harvestd.convention.scan.snapshot import Tree, TreeKind, Version
from harvestd.harvest.budgets import MemoryBudget
from harvestd.harvest.transfer.pool import BulkConnection, ConnectionPool
from harvestd.planning.plan import FetchFile
from harvestd.remote.api import Chunk, Closed, Opened, ReadEvent, ReadRequest

MIB = 1024 * 1024
SIZE = 21 * MIB + 5
PIECE = 256 * 1024
Moment = Callable[[ReadRequest, int], Awaitable[None]]
"""Called before each piece of an answer, with how much of it was sent."""


class FarBox:
    """A box with one file, far away; each line to it has a reader of its own."""

    hashes_there = True

    def __init__(self, size: int = SIZE) -> None:
        self.content = bytearray(os.urandom(MIB) * (size // MIB + 1))[:size]
        self.file = _file(Version(size, 1, 1, 1))
        self.version = self.file.source.version
        self.asked: list[ReadRequest] = []
        self.lines = 0
        self.moment: Moment = nothing
        self.garbled = -1
        """Where a segment begins whose bytes are lost on the way."""

    @asynccontextmanager
    async def opening(self, _window: int) -> AsyncIterator[BulkConnection]:
        """Open one more line."""
        self.lines += 1
        yield BulkConnection(self, anyio.sleep_forever)

    @asynccontextmanager
    async def reading(self, requests: Sequence[ReadRequest]) -> AsyncIterator[AsyncIterator[ReadEvent]]:
        """Answer as a box does."""
        yield self._answers(requests)

    async def _answers(self, requests: Sequence[ReadRequest]) -> AsyncIterator[ReadEvent]:
        for request in requests:
            self.asked.append(request)
            verified = None
            if request.verify_from is not None:
                verified = hashlib.sha256(self.content[request.verify_from : request.offset]).hexdigest()
            yield Opened(request, self.version, verified)
            end = len(self.content) if request.length is None else request.offset + request.length
            digest = hashlib.sha256()
            for at in range(request.offset, end, PIECE):
                await self.moment(request, at - request.offset)
                piece = bytes(self.content[at : min(end, at + PIECE)])
                digest.update(piece)
                yield Chunk(bytes(len(piece)) if request.offset == self.garbled else piece)
            yield Closed(request, self.version, digest.hexdigest())


async def nothing(_request: ReadRequest, _sent: int) -> None:
    """Do nothing before a piece."""
    await anyio.lowlevel.checkpoint()


def _file(version: Version) -> FetchFile:
    path = RemotePath(("run", "training_state", "step_final", "optimizer.pt"))
    source = Source(Tree("/root", "training_runs", TreeKind.TRAINING), path, version)
    return FetchFile(source, Kind.CHECKPOINT, (), "")


@asynccontextmanager
async def lanes_to(box: FarBox, round_trip: float = 0.1, memory: int = 256 * MIB) -> AsyncIterator[ConnectionPool]:
    """Provide up to four lanes to a box at some distance."""
    async with anyio.create_task_group() as tasks:
        yield ConnectionPool(4, MemoryBudget(memory), box.opening, tasks, round_trip)
        tasks.cancel_scope.cancel()
