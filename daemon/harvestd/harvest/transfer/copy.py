"""A large file that has another place on its host now: copied from what is here of it, in place of a download.

Size and modification time say which files at home may be the same; the host's hash of the whole file decides. A name
proves nothing, nor does an inode. The copy is staged and published as a downloaded file is, and what stood at home
before stays where it is: both places may be on the host, as with a hard link.
"""

from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from typing import Final

import anyio.to_thread

from harvestd.convention.paths import RejectedPath
from harvestd.harvest.context import House
from harvestd.inventory.host import Host
from harvestd.planning.plan import FetchFile
from harvestd.planning.records import FileRecord
from harvestd.store.errors import Conflict
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_SLICE: Final = 64 * 1024 * 1024
"""Bytes that are copied between two moments at which a cancellation ends it."""


class Copying:
    """Copies for one host."""

    def __init__(self, host: Host, house: House, root: DataRoot) -> None:
        self._host = host
        self._house = house
        self._root = root
        self._storage = house.storage_of(host)

    async def copy(self, file: FetchFile, staged: Staged, content_hash: Callable[[], Awaitable[str | None]]) -> bool:
        """Fill `staged`, which is empty, from a file at home that has the content of `file` on its host.

        Where there is none `staged` stays empty. False: what was copied is other content, and is of no use.
        Raises as `content_hash` does, `DiskFull` and `HaltedForSafety`.
        """
        here = self._here(file)
        told = await content_hash() if here else None
        if told is None:
            return True
        for record in self._here(file):
            if record.sha256 == told and await self._copied(record, staged):
                if staged.hexdigest != told:
                    return False  # it is damaged at home
                log = get_logger().bind(host=self._host.name, bytes=staged.size)
                log.info(Event.FILE_COPIED, path=file.targets[0].path, old=record.target, remote=file.source.place)
                return True
        return True

    def _here(self, file: FetchFile) -> list[FileRecord]:
        found = self._house.catalogue.knowledge.alike(self._storage, file.source.version)
        return [each for each in found if each.size == file.source.version.size]

    async def _copied(self, record: FileRecord, staged: Staged) -> bool:
        """Copy what stands at home by this record; return whether anything did."""
        with ExitStack() as stack:
            try:
                # What is open may be moved or removed: its bytes stay as they are.
                async with self._house.places.still():
                    path = self._house.catalogue.knowledge.placed(record.target, record.experiment)
                    source = stack.enter_context(self._root.reading(path))
            except (FileNotFoundError, Conflict, RejectedPath):
                return False
            while staged.size < record.size:
                end = min(record.size, staged.size + _SLICE)
                await anyio.to_thread.run_sync(staged.copy, source.fileno(), end)
                if staged.size < end:
                    break
        return True
