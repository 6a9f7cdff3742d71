"""Downloads one large file to staging with a journal, so that a lost link or a crash costs little.

Staged bytes are kept only once the host has hashed the same bytes; a transfer whose source is gone or changed is
dropped with its bytes.

The small files of a large group: requested at once, so that they cost one round trip in all, not one each. They are
not journalled, since a crash loses little. Only verified files are left in `staged`, unless `ReadMismatch` is raised.
"""

import hashlib
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from msgspec.structs import replace

from harvestd import failpoints
from harvestd.catalogue.entries import Transfer
from harvestd.convention.paths import encoded
from harvestd.convention.scan.completeness import HEAD_BYTES
from harvestd.convention.scan.model import place_of
from harvestd.convention.scan.snapshot import EntryType, Listing, Snapshot, TreeState, Version
from harvestd.errors import DiskFull, HaltedForSafety, unwrapped
from harvestd.harvest.budgets import Bandwidth
from harvestd.harvest.context import Context
from harvestd.harvest.sync import Broadcast
from harvestd.harvest.transfer.download import ReadMismatch, RestartDownload, SegmentedDownload
from harvestd.harvest.transfer.pool import ConnectionPool
from harvestd.harvest.transfer.publish import inspected, reason_to_doubt
from harvestd.harvest.transfer.reading import ReadAnswer, read_each
from harvestd.harvest.transfer.rehash import Copying
from harvestd.inventory.host import Host
from harvestd.planning.plan import FetchFile
from harvestd.remote.api import Reader, ReadRequest
from harvestd.remote.ssh.errors import Stuck
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged

if TYPE_CHECKING:
    from harvestd.catalogue.repository import Catalogue

PART = 1024 * 1024
"""Bytes: smaller files are parts; one at a time is held in memory."""


class Parts:
    """Stages parts; the caller closes everything in `staged`, in every case."""

    def __init__(
        self, root: DataRoot, staged: dict[FetchFile, Staged], bandwidth: Bandwidth, on_received: Callable[[int], None]
    ) -> None:
        """`on_received` is called with the number of bytes received, as they arrive."""
        self._root = root
        self._bandwidth = bandwidth
        self._staged = staged
        self._on_received = on_received

    async def bring(self, files: Sequence[FetchFile], lanes: ConnectionPool) -> None:
        """Stage all of `files`. Raise `ReadMismatch`, `Retry` when the link is lost, `HaltedForSafety`."""
        async with lanes.acquire() as lane:
            await self._read(files, lane.reader)

    async def _read(self, files: Sequence[FetchFile], reader: Reader) -> None:
        requests = [(f, ReadRequest(f.source.tree, f.source.path, length=f.source.version.size)) for f in files]
        await read_each(reader, requests, self._take, _failed, _stuck, self._received)

    async def _received(self, size: int) -> None:
        self._on_received(size)
        await self._bandwidth.spend(size)

    async def _take(self, file: FetchFile, answer: ReadAnswer) -> None:
        opened, closed, content = answer.opened, answer.closed, answer.content
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


def _failed(file: FetchFile, reason: str) -> None:
    raise ReadMismatch(f"{file.source.path.name}: {reason}")


def _stuck(_file: FetchFile, error: Stuck) -> None:
    raise error


JOURNAL = 64 * 1024 * 1024
JOURNAL_EVERY = 2.0
"""Bytes, or seconds, after which a transfer is synced and journalled: the most that a crash may cost."""
LAST_MESSAGES = 2.0
"""Seconds for syncing a partial file when the process ends."""


class ResumeJournal:
    """Downloads the large files of one host to staging."""

    def __init__(self, host: Host, context: Context, root: DataRoot) -> None:
        self._host = host
        self._context = context
        self._root = root
        self._storage = context.storage_of(host)
        self._copying = Copying(host, context, root)
        self._left: set[str] = set()
        """Transfers whose source vanished in the last scan, while the same version is shown at another path."""

    async def bring(
        self, file: FetchFile, lanes: ConnectionPool, on_received: Callable[[int], None], landed: Callable[[int], None]
    ) -> Staged:
        """Return the whole file in staging; the caller must close it.

        `on_received` is called with the bytes that are received, `landed` with those that are copied from a local file.
        On any error the partial file is journalled and closed, to be resumed. Raise `Doubtful`, `Retry` when the links
        are lost, `HaltedForSafety` when the disk fails.
        """
        name = self._name(file.source.place, file.source.version)
        synced = await self._synced(file, name)
        staged = await anyio.to_thread.run_sync(self._resumed, name, synced)
        known = Transfer(name, self._storage, file.source.place, staged.size)
        journal = _Journal(self._context.catalogue, known, may_be_recorded=synced > 0)
        whole = False
        try:
            arriving = SegmentedDownload(file, staged, lanes, self._context.budgets.bandwidth, on_received)
            if not staged.size and file.source.version.size:
                is_good = await self._copying.copy(file, staged, arriving.content_hash)
                landed(staged.size if is_good else 0)
            else:
                is_good = await arriving.prove()
            if not is_good:
                await journal.start_over(staged)
                staged = await anyio.to_thread.run_sync(self._root.stage, name)
                arriving = SegmentedDownload(file, staged, lanes, self._context.budgets.bandwidth, on_received)
            self._context.monitor.resumed(self._host.name, staged.size)
            with unwrapped():
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(journal.keep, staged, arriving.moved)
                    await arriving.run()
                    tasks.cancel_scope.cancel()
            whole = True
        except RestartDownload:
            await journal.start_over(staged)
            raise
        except DiskFull:
            # The catalogue may need the space that this file takes.
            staged.discard()
            raise
        finally:
            try:
                with anyio.move_on_after(LAST_MESSAGES, shield=True):
                    await journal.write(staged)
            except HaltedForSafety:
                staged.discard()
                raise
            finally:
                if not whole and journal.may_be_recorded:
                    staged.close()
                elif not whole:
                    # A staged file without a journal must not remain.
                    staged.discard()
        return staged

    async def drop(self, names: Sequence[str]) -> None:
        """Remove these transfers from the journal and from staging.

        The journal comes first: if the process ends in between, the next one removes a file without an entry. A full
        disk may have to be relieved of the files before the journal can be written.
        """
        if not names:
            return
        try:
            await self._context.catalogue.transfers.drop(names)
        except DiskFull:
            await self._discard(names)
            await self._context.catalogue.transfers.drop(names)
        else:
            await self._discard(names)

    async def _discard(self, names: Sequence[str]) -> None:
        for name in names:
            await anyio.to_thread.run_sync(self._root.staging.discard, name)

    async def drop_files(self, files: Sequence[FetchFile]) -> None:
        """Drop the transfers of these files."""
        await self.drop([self._name(file.source.place, file.source.version) for file in files])

    async def drop_below(self, above: tuple[str, ...]) -> None:
        """Drop the transfers from below these directories, which end in slashes."""
        await self.drop([each.name for each in await self._known() if each.place.startswith(above)])

    async def drop_gone(self, snapshot: Snapshot, busy: Collection[str]) -> None:
        """Drop transfers whose source this scan no longer shows; `busy` are remote paths that are being read.

        A source that was renamed is still shown: its transfer continues there.
        """
        known = await self._known()
        names = {self._name(place, version) for place, version in _files(snapshot, {each.place for each in known})}
        gone = [
            each
            for each in known
            if each.name not in names
            and each.place not in busy
            and any(_covers(listing, each.place) for listing in snapshot.listings)
        ]
        self._left.clear()
        if gone:
            shown = _large_versions(snapshot)
            self._left = {each.name for each in gone if any(_brings(each, version) for version in shown)}
            await self.drop([each.name for each in gone if each.name not in self._left])

    async def staged(self, files: Sequence[FetchFile]) -> int:
        """Return the bytes of these files that are journalled."""
        names = {self._name(file.source.place, file.source.version) for file in files}
        return sum(each.synced for each in await self._known() if each.name in names)

    async def _known(self) -> list[Transfer]:
        return [each for each in await self._context.catalogue.transfers.all() if each.storage == self._storage]

    async def _synced(self, file: FetchFile, name: str) -> int:
        """Return the bytes that are journalled for this transfer; drop the transfers of other versions of the file."""
        here = [each for each in await self._known() if each.place == file.source.place]
        await self.drop([each.name for each in here if each.name != name])
        own = next((each.synced for each in here if each.name == name), 0)
        return own or await self._taken_over(file, name)

    async def _taken_over(self, file: FetchFile, name: str) -> int:
        """Take over a transfer of the same version from another path or another storage; return its bytes.

        The file was renamed on this host, or a host that is not connected now showed the same file system. This host's
        hash decides later whether the bytes are the same.
        """
        catalogue = self._context.catalogue
        for each in await catalogue.transfers.all():
            if self._is_left(each, file) and _brings(each, file.source.version):
                # In this order a crash leaves one of the two names, with its journal entry.
                await catalogue.transfers.save(Transfer(name, self._storage, file.source.place, each.synced))
                await anyio.to_thread.run_sync(self._root.staging.rename, each.name, name)
                await catalogue.transfers.drop([each.name])
                return each.synced
        return 0

    def _is_left(self, transfer: Transfer, file: FetchFile) -> bool:
        """Return whether a transfer of another source is abandoned."""
        if transfer.storage != self._storage:
            return not self._context.states.connected(transfer.storage)
        # Files in one directory may have the same size and time: only one whose source vanished is abandoned.
        return transfer.name in self._left and transfer.place != file.source.place

    def _resumed(self, name: str, synced: int) -> Staged:
        staged = self._root.resume(name, synced) if synced else None
        if staged is None:
            self._root.staging.discard(name)
            staged = self._root.stage(name)
        return staged

    def _name(self, place: str, version: Version) -> str:
        return _name(self._storage, place, version)


def _name(storage: str, place: str, version: Version) -> str:
    """Return the name of a transfer: another version of the file is another transfer.

    Size and modification time alone identify the version: hosts of one file system may show different inodes, or none.
    The content is proven by its hash before anything is appended.
    """
    key = f"{storage}\0{place}\0{version.size}\0{version.mtime_ns}"
    return "transfer-" + hashlib.sha256(encoded(key)).hexdigest()[:32]


def _brings(transfer: Transfer, version: Version) -> bool:
    """Return whether a transfer is one of this version, whatever its path is now."""
    return transfer.name == _name(transfer.storage, transfer.place, version)


class _Journal:
    """Records the progress of one transfer."""

    def __init__(self, catalogue: "Catalogue", last: Transfer, *, may_be_recorded: bool) -> None:
        self._catalogue = catalogue
        self.last = last
        """The last state that is certainly recorded."""
        self.may_be_recorded = may_be_recorded
        """Whether the catalogue may have an entry: one whose wait was broken off may be committed all the same."""

    async def keep(self, staged: Staged, moved: Broadcast) -> None:
        """Record the progress periodically, in a task of its own, so that a slow disk does not pause the download."""
        while True:
            with anyio.move_on_after(JOURNAL_EVERY):
                while staged.size - self.last.synced < JOURNAL:
                    await moved.rung()
            await self.write(staged)

    async def write(self, staged: Staged) -> None:
        """Sync the staged bytes, then record them, in this order. Raise `HaltedForSafety`."""
        if not staged.closed and staged.size > self.last.synced:
            size = await anyio.to_thread.run_sync(staged.sync_beside)
            here = replace(self.last, synced=size)
            failpoints.reach("transfer.synced")
            self.may_be_recorded = True
            await self._catalogue.transfers.save(here)
            failpoints.reach("transfer.journalled")
            self.last = here

    async def start_over(self, staged: Staged) -> None:
        """Delete the entry, then the staged bytes, which are of no use. Raise `DiskFull` and `HaltedForSafety`."""
        try:
            if self.may_be_recorded:
                await self._catalogue.transfers.drop([self.last.name])
        finally:
            staged.discard()
        self.last, self.may_be_recorded = replace(self.last, synced=0), False


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


def _large_versions(snapshot: Snapshot) -> list[Version]:
    """Return the versions of all files that are large enough for a separate transfer."""
    return [
        entry.version
        for listing in snapshot.listings
        for entry in listing.entries.values()
        if entry.type is EntryType.FILE and entry.version.size >= PART
    ]


def _covers(listing: Listing, place: str) -> bool:
    """Return whether a file that is missing in this listing is certainly not on the host: its tree was listed."""
    return listing.state is TreeState.PRESENT and bool(listing.entries) and place.startswith(f"{listing.tree}/")
