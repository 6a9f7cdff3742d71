"""The small files of a large group: requested at once, so that they cost one round trip in all, not one each.

They are not journalled, since a crash loses little. Only verified files are left in `staged`, unless `ReadMismatch` is
raised.
"""

from collections.abc import Callable, Sequence

import anyio
import anyio.to_thread

from harvestd.convention.scan.completeness import HEAD_BYTES
from harvestd.harvest.budgets import Bandwidth
from harvestd.harvest.transfer.download import ReadMismatch
from harvestd.harvest.transfer.held_back import inspected
from harvestd.harvest.transfer.pool import ConnectionPool
from harvestd.harvest.transfer.publish import reason_to_doubt
from harvestd.planning.plan import FetchFile
from harvestd.remote.api import Chunk, Closed, Failed, Opened, Reader, ReadRequest
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged

PART = 1024 * 1024
"""Bytes: smaller files are parts; one at a time is held in memory."""


class Parts:
    """Stages parts; the caller closes everything in `staged`, in every case."""

    def __init__(
        self, root: DataRoot, staged: dict[FetchFile, Staged], bandwidth: Bandwidth, came: Callable[[int], None]
    ) -> None:
        """`came` is called with the number of bytes received, as they arrive."""
        self._root = root
        self._bandwidth = bandwidth
        self._staged = staged
        self._came = came

    async def bring(self, files: Sequence[FetchFile], lanes: ConnectionPool) -> None:
        """Stage all of `files`. Raise `ReadMismatch`, `Retry` when the link is lost, `HaltedForSafety`."""
        async with lanes.lent() as lane:
            await self._read(files, lane.reader)

    async def _read(self, files: Sequence[FetchFile], reader: Reader) -> None:
        requests = [ReadRequest(f.source.tree, f.source.path, length=f.source.version.size) for f in files]
        waiting = iter(files)
        opened: Opened | None = None
        content = bytearray()
        async with reader.reading(requests) as events:
            async for event in events:
                match event:
                    case Opened():
                        opened = event
                    case Chunk(data):
                        content += data
                        self._came(len(data))
                        await self._bandwidth.spend(len(data))
                    case Failed():
                        raise ReadMismatch(f"{event.request.path.name}: {event.reason}")
                    case Closed():
                        await self._take(next(waiting), bytes(content), opened, event)
                        content.clear()
                        opened = None

    async def _take(self, file: FetchFile, content: bytes, opened: Opened | None, closed: Closed) -> None:
        doubt: str | None = "no answer"
        if opened is not None:
            doubt = reason_to_doubt(file, opened.version, closed.version, content[:HEAD_BYTES])
        if doubt is None and len(content) != file.source.version.size:
            doubt = "the box sent another number of bytes than the file has"
        if doubt is None:
            staged = await anyio.to_thread.run_sync(self._stage, file, content)
            if closed.sha256 is not None and closed.sha256 != staged.hexdigest:
                doubt = "its hash is not the one that the box told"
            else:
                doubt = await inspected(file, staged)
        if doubt is not None:
            raise ReadMismatch(f"{file.source.path.name}: {doubt}")

    def _stage(self, file: FetchFile, content: bytes) -> Staged:
        staged = self._staged[file] = self._root.stage()
        staged.write(content)
        return staged
