"""Hashes files on the host whose times but not sizes changed: they are fetched again only if the content differs.

After a `chown -R` these are all files of a host, so they are recorded in batches.

Copies a large file that moved on its host from a local file with the same content, instead of downloading it. Size
and modification time select the candidates among the local files; the host's hash of the whole file decides. Neither
a name nor an inode proves anything. The copy is staged and published as a downloaded file is, and the local original
stays: both paths may exist on the host, as with a hard link.
"""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import ExitStack
from functools import partial
from typing import Final

import anyio.to_thread
from msgspec.structs import replace

from harvestd.convention.paths import RejectedPath
from harvestd.harvest.context import Context
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.transfer.reading import ReadAnswer, read_each
from harvestd.inventory.host import Host
from harvestd.planning.plan import Check, FetchFile
from harvestd.planning.records import FileRecord, section_of
from harvestd.remote.api import Opened, Reader, ReadRequest
from harvestd.store.errors import Conflict
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

AT_ONCE: Final = 1000
"""Files in one transaction; the event loop is held for a few milliseconds."""

Hashed = Sequence[tuple[Check, Opened]]
"""Files with the host's answers about them."""


async def check_contents(checks: Sequence[Check], reader: Reader, context: Context, failures: FailureTracker) -> None:
    """Hash these files on the host and record the results. Raise `Retry` when the link is lost."""
    await hash_there(checks, reader, failures, partial(_conclude, context))


async def hash_there(
    checks: Sequence[Check],
    reader: Reader,
    failures: FailureTracker,
    conclude: Callable[[Hashed], Awaitable[None]],
) -> None:
    """Hash these files on their host and call `conclude` with the hashes, in batches as they arrive.

    Files that change, or can't be read, are noted in `failures`. Raise `Retry` when the link is lost.
    """
    hashed: list[tuple[Check, Opened]] = []

    async def take(item: Check, answer: ReadAnswer) -> None:
        opened = answer.opened
        if opened is None or not opened.version == answer.closed.version == item.source.version:
            failures.failed(item.place, "it changed on the box while it was hashed")
            return
        failures.cleared(item.place)
        hashed.append((item, opened))
        if len(hashed) == AT_ONCE:
            full = hashed[:]
            hashed.clear()
            await conclude(full)

    requests = [
        (each, ReadRequest(each.source.tree, each.source.path, each.source.version.size, length=0, verify_from=0))
        for each in checks
    ]
    await read_each(
        reader,
        requests,
        take,
        failed=lambda item, reason: failures.failed(item.place, reason),
        stuck=lambda item, error: failures.stuck(item.place, str(error)),
    )
    if hashed:
        await conclude(hashed)


async def _conclude(context: Context, hashed: Hashed) -> None:
    """Record the host's hashes of files, except those whose record changed since this was planned.

    Hashing takes minutes: the directory may be renamed by now, or the file was fetched again, moved or removed.
    """
    async with context.directory_lock.still():
        knowledge = context.catalogue.knowledge
        paths = [knowledge.placed(item.record.target, item.record.experiment) for item, _ in hashed]
        async with context.catalogue.files.loaded(set(map(section_of, paths))):
            same: list[FileRecord] = []
            for path, (item, opened) in zip(paths, hashed, strict=True):
                record = replace(item.record, target=path)
                if knowledge.holder(path) != record:
                    continue  # the next plan handles it
                if item.requested_by is not None and opened.verified is not None:
                    knowledge.add_hash(item.requested_by, item.place, item.source.version, opened.verified, record)
                elif opened.verified == record.sha256:
                    same.append(replace(record, version=item.source.version, differs=None))
                    if record.version.mtime_ns != item.source.version.mtime_ns:
                        context.changes.touch([record.experiment])  # the manifest has the time
                else:
                    knowledge.add_file(replace(record, differs=item.source.version))
            await context.catalogue.save_files(same)


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
        reported = await content_hash() if here else None
        if reported is None:
            return True
        for record in self._here(file):
            if record.sha256 == reported and await self._copied(record, staged):
                if staged.hexdigest != reported:
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
                async with self._context.directory_lock.still():
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
