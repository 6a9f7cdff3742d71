"""Copies a large file that moved on its host from a local file with the same content, instead of downloading it.

Size and modification time select the candidates among the local files; the host's hash of the whole file decides.
Neither a name nor an inode proves anything. The copy is staged and published as a downloaded file is, and the local
original stays: both paths may exist on the host, as with a hard link.
"""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Final

import anyio.to_thread

from harvestd.convention.paths import RejectedPath
from harvestd.harvest.context import Context
from harvestd.inventory.host import Host
from harvestd.planning.plan import FetchFile
from harvestd.planning.records import FileRecord
from harvestd.store.errors import Conflict
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_SLICE: Final = 64 * 1024 * 1024
"""Bytes that are copied between two points at which the copy can be cancelled."""


class Copying:
    """Copies files of one host."""

    def __init__(self, host: Host, context: Context, root: DataRoot) -> None:
        self._host = host
        self._context = context
        self._root = root
        self._storage = context.storage_of(host)

    async def copy(self, file: FetchFile, staged: Staged, content_hash: Callable[[], Awaitable[str | None]]) -> bool:
        """Fill the empty `staged` from a local file with the content of `file` on its host.

        Leave `staged` empty if there is none. Return False if the copied bytes turned out to be different content, so
        that they must be discarded. Raise what `content_hash` raises, `DiskFull` and `HaltedForSafety`.
        """
        here = self._here(file)
        told = await content_hash() if here else None
        if told is None:
            return True
        for record in self._here(file):
            if record.sha256 == told and await self._copied(record, staged):
                if staged.hexdigest != told:
                    return False  # the local file is damaged
                log = get_logger().bind(host=self._host.name, bytes=staged.size)
                log.info(Event.FILE_COPIED, path=file.targets[0].path, old=record.target, remote=file.source.place)
                return True
        return True

    def _here(self, file: FetchFile) -> list[FileRecord]:
        found = self._context.catalogue.knowledge.alike(self._storage, file.source.version)
        return [each for each in found if each.size == file.source.version.size]

    async def _copied(self, record: FileRecord, staged: Staged) -> bool:
        """Copy the local file of this record; return whether it exists."""
        with ExitStack() as stack:
            try:
                # Once open, the file may be moved or removed: its bytes stay the same.
                async with self._context.places.still():
                    path = self._context.catalogue.knowledge.placed(record.target, record.experiment)
                    source = stack.enter_context(self._root.reading(path))
            except (FileNotFoundError, Conflict, RejectedPath):
                return False
            while staged.size < record.size:
                end = min(record.size, staged.size + _SLICE)
                await anyio.to_thread.run_sync(staged.copy, source.fileno(), end)
                if staged.size < end:
                    break
        return True
