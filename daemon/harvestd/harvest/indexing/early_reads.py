"""Prefetches the small files that describe runs while the scan that shows them is still arriving.

A run's local paths depend on its config.yaml, so a first scan is followed by reading those files, and only then by
fetching. Read as soon as the first piece of the scan shows them, they cost no extra round trip. `Learning` uses an
entry only if its version matches the completed scan; nothing else depends on what was read early.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream

from harvestd.convention.scan.model import Source, place_of
from harvestd.convention.scan.snapshot import Entry, EntryType, Snapshot, Tree, TreeKind
from harvestd.convention.scan.training import run_told_of
from harvestd.errors import unwrapped
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.transfer.reading import read_small
from harvestd.planning.index import PlanningIndex
from harvestd.remote.api import Glimpse, Reader

_MOST = 256
"""Files: their contents are held until the scan is complete."""


class EarlyReads:
    """Reads the small files of unknown runs during a host's first scan."""

    def __init__(self, reader: Reader, knowledge: PlanningIndex, storage: str, troubles: FailureTracker) -> None:
        self._reader = reader
        self._troubles = troubles
        self._knowledge = knowledge
        self._storage = storage
        self._left = _MOST
        self._contents: dict[Source, bytes] = {}

    async def beside(self, scan: Callable[[Glimpse], Awaitable[Snapshot]]) -> Snapshot:
        """Scan, and read meanwhile. Raise what either of them raises."""
        send, receive = anyio.create_memory_object_stream[list[Source]](_MOST)

        def glimpse(tree: Tree, entries: Sequence[Entry]) -> None:
            if tree.kind is TreeKind.TRAINING and (found := self._found(tree, entries)):
                # A closed receiver means that the reading failed; its own error gives the reason.
                with suppress(anyio.BrokenResourceError):
                    send.send_nowait(found)

        with unwrapped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, receive)
                with send:
                    snapshot = await scan(glimpse)
        return snapshot

    def taken(self) -> dict[Source, bytes]:
        """Return the contents that were read early, and release them."""
        contents, self._contents = self._contents, {}
        return contents

    def _found(self, tree: Tree, entries: Sequence[Entry]) -> list[Source]:
        found = [
            Source(tree, entry.path, entry.version)
            for entry in entries
            if entry.type is EntryType.FILE and self._is_news(tree, entry)
        ][: self._left]
        self._left -= len(found)
        return found

    def _is_news(self, tree: Tree, entry: Entry) -> bool:
        run = run_told_of(entry.path)
        return run is not None and self._knowledge.run_at(self._storage, place_of(tree, run)) is None

    async def _read(self, receive: MemoryObjectReceiveStream[list[Source]]) -> None:
        with receive:
            async for sources in receive:
                self._contents |= await read_small(self._reader, sources, self._troubles)
