"""One large file on its way into staging, journalled as it comes, so that a lost link or a crash costs little.

What is here already is kept only once the box has hashed the same bytes; a transfer whose source is gone or changed is
dropped with its bytes.
"""

import hashlib
import time
from collections.abc import Callable, Collection, Sequence

import anyio
import anyio.to_thread

from harvestd.catalogue.catalogue import Transfer
from harvestd.convention.layout import place_of
from harvestd.convention.paths import encoded
from harvestd.convention.plan import FetchFile
from harvestd.convention.seals import HEAD_BYTES
from harvestd.convention.snapshot import EntryType, Listing, Snapshot, TreeState, Version
from harvestd.errors import HarvestError
from harvestd.harvest.house import House
from harvestd.harvest.publisher import reason_to_doubt
from harvestd.inventory.provider import Host
from harvestd.remote.box import Chunk, Closed, Failed, Opened, Reader, ReadRequest
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged

WRITE = 1024 * 1024
"""Bytes that are gathered for one write in a worker thread."""
JOURNAL = 64 * 1024 * 1024
JOURNAL_EVERY = 2.0
"""Bytes, or seconds, after which a transfer is synced and journalled: what a crash may cost."""
_LAST_WORDS = 2.0
"""Seconds for syncing what is half here when the process is told to end."""


class Doubtful(HarvestError):
    """What was read must not be published; the text says why, by the file's name."""


class Transfers:
    """Brings the large files of one host to staging."""

    def __init__(self, host: Host, house: House, root: DataRoot) -> None:
        self._host = host
        self._house = house
        self._root = root
        self._storage = house.storage_of(host)

    async def bring(self, file: FetchFile, reader: Reader, came: Callable[[int], None]) -> Staged:
        """Give the whole file in staging, for the caller to close; `came` hears of bytes as they come.

        On any error what is here is journalled and closed, to go on from. Raises `Doubtful`, `Retry` when the link is
        lost, `HaltedForSafety` when the disk fails.
        """
        name = self._name(file.source.place, file.source.version)
        staged = await anyio.to_thread.run_sync(self._resumed, name, await self._synced(file, name))
        whole = False
        try:
            if not await self._stream(file, staged, reader, came):
                staged.discard()
                staged = await anyio.to_thread.run_sync(self._root.stage, name)
                await self._stream(file, staged, reader, came)
            whole = True
        finally:
            with anyio.move_on_after(_LAST_WORDS, shield=True):
                await self._journal(file, staged)
            if not whole:
                staged.close()
        return staged

    async def drop(self, names: Sequence[str]) -> None:
        """Remove these from staging and from the journal; those that moved to their places are only forgotten."""
        for name in names:
            await anyio.to_thread.run_sync(self._root.staging.discard, name)
        if names:
            await self._house.catalogue.drop_transfers(names)

    async def drop_files(self, files: Sequence[FetchFile]) -> None:
        """Drop whatever is in staging of these files."""
        await self.drop([self._name(file.source.place, file.source.version) for file in files])

    async def drop_gone(self, snapshot: Snapshot, busy: Collection[str]) -> None:
        """Drop transfers whose source this look does not show any more; `busy` are places that are being read."""
        known = await self._known()
        names = {self._name(place, version) for place, version in _files(snapshot, {each.place for each in known})}
        gone = [
            each.name
            for each in known
            if each.name not in names
            and each.place not in busy
            and any(_covers(listing, each.place) for listing in snapshot.listings)
        ]
        await self.drop(gone)

    async def staged(self, files: Sequence[FetchFile]) -> int:
        """Give the bytes that are journalled of these files."""
        names = {self._name(file.source.place, file.source.version) for file in files}
        return sum(each.synced for each in await self._known() if each.name in names)

    async def _known(self) -> list[Transfer]:
        return [each for each in await self._house.catalogue.transfers() if each.storage == self._storage]

    async def _synced(self, file: FetchFile, name: str) -> int:
        """Give the bytes that are journalled for this transfer; what is left of other versions' is dropped."""
        here = [each for each in await self._known() if each.place == file.source.place]
        await self.drop([each.name for each in here if each.name != name])
        return next((each.synced for each in here if each.name == name), 0)

    def _resumed(self, name: str, synced: int) -> Staged:
        staged = self._root.resume(name, synced) if synced else None
        if staged is None:
            self._root.staging.discard(name)
            staged = self._root.stage(name)
        return staged

    async def _stream(self, file: FetchFile, staged: Staged, reader: Reader, came: Callable[[int], None]) -> bool:
        """Bring the rest of one file to staging; False where what was staged before is not its beginning."""
        source = file.source
        start = staged.size
        request = ReadRequest(source.tree, source.path, start, source.version.size - start, 0 if start else None)
        fresh = hashlib.sha256()
        buffer = bytearray()
        opened: Opened | None = None
        journalled, at = start, time.monotonic()
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
                        came(len(data))
                        self._house.monitor.moved(self._host.name, len(data))
                        await self._house.bandwidth.spend(len(data))
                        if len(buffer) >= WRITE:
                            await anyio.to_thread.run_sync(_write, staged, fresh, bytes(buffer))
                            buffer.clear()
                        late = time.monotonic() - at >= JOURNAL_EVERY and staged.size > journalled
                        if late or staged.size - journalled >= JOURNAL:
                            await self._journal(file, staged)
                            journalled, at = staged.size, time.monotonic()
                    case Failed(_, reason):
                        raise Doubtful(f"{source.path.name}: {reason}")
                    case Closed(_, version, digest):
                        await anyio.to_thread.run_sync(_write, staged, fresh, bytes(buffer))
                        self._believe(file, staged, opened, version)
                        if digest is not None and fresh.hexdigest() != digest:
                            staged.discard()
                            raise Doubtful(f"{source.path.name}: its hash is not the one that the box told")
        return True

    def _believe(self, file: FetchFile, staged: Staged, opened: Opened | None, closed: Version) -> None:
        source = file.source
        if opened is None or closed != source.version or staged.size != source.version.size:
            staged.discard()
            raise Doubtful(f"{source.path.name}: it changed on the box while it was read")
        doubt = reason_to_doubt(file, opened.version, closed, staged.read(0, HEAD_BYTES))
        if doubt is not None:
            raise Doubtful(f"{source.path.name}: {doubt}")

    async def _journal(self, file: FetchFile, staged: Staged) -> None:
        if staged.size and not staged.closed:
            await anyio.to_thread.run_sync(staged.sync)
            transfer = Transfer(staged.name, self._storage, file.source.place, staged.size)
            await self._house.catalogue.save_transfer(transfer)

    def _name(self, place: str, version: Version) -> str:
        """Name a transfer by what it brings: another version of the file is another transfer."""
        key = f"{self._storage}\0{place}\0{version.size}\0{version.mtime_ns}\0{version.inode}"
        return "transfer-" + hashlib.sha256(encoded(key)).hexdigest()[:32]


def _write(staged: Staged, fresh: "hashlib._Hash", data: bytes) -> None:
    staged.write(data)
    fresh.update(data)


def _files(snapshot: Snapshot, places: Collection[str]) -> list[tuple[str, Version]]:
    if not places:
        return []
    files = (
        (place_of(listing.tree, path), entry.version)
        for listing in snapshot.listings
        for path, entry in listing.entries.items()
        if entry.type is EntryType.FILE
    )
    return [(place, version) for place, version in files if place in places]


def _covers(listing: Listing, place: str) -> bool:
    """Tell whether a file that is not in this listing is surely not on the box: the tree was there to be looked at."""
    return listing.state is TreeState.PRESENT and bool(listing.entries) and place.startswith(f"{listing.tree}/")
