"""Growing files: only appended bytes are fetched, and they are appended here up to the last whole line or record.

Before an append the host hashes the bytes that are here already: the last 64 KiB each time, all of them on first
contact. If the hashes differ, the source was truncated or replaced: the local file is kept as a version and a new one
starts.
"""

import hashlib
import time
from collections.abc import Sequence

import anyio
import anyio.to_thread
from msgspec.structs import replace

from harvestd import failpoints
from harvestd.convention.kinds import Kind
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.completeness import whole_lines, whole_records
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.structs import Immutable
from harvestd.errors import HarvestError
from harvestd.harvest.context import Context
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.host.health import RunProgress, StallDetector
from harvestd.harvest.transfer.open_files import OpenFiles
from harvestd.harvest.transfer.publish import Refusals
from harvestd.harvest.transfer.reading import ReadAnswer, read_each
from harvestd.inventory.host import Host
from harvestd.planning.plan import Follow
from harvestd.planning.records import FileRecord
from harvestd.remote.api import Closed, Opened, Reader, ReadRequest
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.growing import GrowingFile
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

STEP = 8 * 1024 * 1024
"""Bytes of one file that are read, verified and appended at once; more follow in further steps."""
TAIL = 64 * 1024


class _Part(Immutable):
    """What one answer brought for one file."""

    follow: Follow
    growing: GrowingFile
    content: bytes
    start: Opened | None
    end: Closed


class LogTailer:
    """Follows the growing files of one host."""

    def __init__(
        self,
        host: Host,
        context: Context,
        root: DataRoot,
        failures: FailureTracker,
        refused: Refusals,
        stalling: StallDetector,
    ) -> None:
        self._host = host
        self._context = context
        self._failures = failures
        self._refused = refused
        self._files = OpenFiles(root, context.budgets.descriptors)
        self._verified: set[LocalPath] = set()
        self._stepping = RunProgress(host, context, stalling)
        self.bytes = 0
        """Bytes appended so far."""
        self.files: set[LocalPath] = set()
        """Files that bytes were appended to."""
        self.conflicts: dict[LocalPath, str] = {}
        """Local paths that hold something else, and why it was left unchanged."""

    async def follow(self, follows: Sequence[Follow], reader: Reader) -> None:
        """Fetch these files up to the size that the last scan showed, and a little further, but never endlessly.

        Raise `Retry` when the link is lost, `HaltedForSafety` when the disk fails.
        """
        left = list(follows)
        while left:
            most = self._files.allowed(len(left))
            some, left = left[:most], left[most:]
            while some:
                async with self._context.budgets.memory.hold(min(STEP, sum(follow.size for follow in some))):
                    some = await self._step(some, reader)

    async def _step(self, follows: Sequence[Follow], reader: Reader) -> list[Follow]:
        """Take one step with each file; return those that need another step, with their new records."""
        further: list[Follow] = []

        async def take(item: tuple[Follow, GrowingFile | None], answer: ReadAnswer) -> None:
            more = await self._take(*item, answer.content, answer.opened, answer.closed)
            if more is not None:
                further.append(more)

        await read_each(
            reader,
            [(item, self._request(*item)) for item in await self._here(follows)],
            take,
            failed=lambda item, reason: self._failures.delayed(item[0].place, reason),
            stuck=lambda item, error: self._failures.stuck(item[0].place, str(error)),
            received=self._received,
        )
        return further

    async def _received(self, size: int) -> None:
        self._context.monitor.moved(self._host.name, size)
        await self._context.budgets.bandwidth.spend_first(size)

    async def _here(self, follows: Sequence[Follow]) -> list[tuple[Follow, GrowingFile | None]]:
        """Return the files that can be appended to; None: it is made as soon as the host sent something of it.

        What can't be read on the host leaves nothing here.
        """
        absent = await self._files.absent([each.target.path for each in follows if each.target.replaces is None])
        found: list[tuple[Follow, GrowingFile | None]] = []
        for each in follows:
            if each.target.path in absent:
                found.append((each, None))
            elif (growing := await self._opened(each)) is not None:
                found.append((each, growing))
        return found

    async def _opened(self, follow: Follow) -> GrowingFile | None:
        async with self._context.directory_lock.still():
            return await self._opened_there(follow) if self._is_there(follow) else None

    def _is_there(self, follow: Follow) -> bool:
        """Return whether the file's directory still has the name that it had when this was planned."""
        path = follow.target.path
        if self._context.catalogue.knowledge.placed(path, follow.target.experiment) == path:
            return True
        self._files.close(path)
        return False

    async def _opened_there(self, follow: Follow) -> GrowingFile | None:
        try:
            return await self._files.at(follow.target.path, follow.target.replaces)
        except Damaged as e:
            return await self._start_over(follow, str(e))
        except (Conflict, Refused) as e:
            self._refuse(follow, e)
            return None

    def _refuse(self, follow: Follow, error: HarvestError) -> None:
        """Leave the present file unchanged; the planner does not request this file again."""
        path = follow.target.path
        self._refused.note(follow.place, path, follow.source.version, str(error))
        self.conflicts[path] = str(error)
        get_logger().warning(
            Event.FILE_CONFLICT, host=self._host.name, path=path, error=str(error), remote=follow.place
        )

    def _request(self, follow: Follow, growing: GrowingFile | None) -> ReadRequest:
        length = growing.length if growing is not None else 0
        verify_from = max(0, length - TAIL) if follow.target.path in self._verified else 0
        return ReadRequest(follow.source.tree, follow.source.path, length, STEP, verify_from)

    async def _take(
        self, follow: Follow, growing: GrowingFile | None, content: bytes, start: Opened | None, end: Closed
    ) -> Follow | None:
        async with self._context.directory_lock.still():
            if not self._is_there(follow):
                return None
            if (growing := growing or await self._opened_there(follow)) is None:
                return None
            if growing.length != end.request.offset:
                return follow  # something of it appeared here meanwhile
            return await self._taken(_Part(follow, growing, content, start, end))

    async def _taken(self, part: _Part) -> Follow | None:
        follow, growing, start, request = part.follow, part.growing, part.start, part.end.request
        try:
            ours = await anyio.to_thread.run_sync(growing.hash_range, request.verify_from or 0, growing.length)
            agrees = start is not None and start.version.size >= growing.length and start.verified == ours
            if self._was_found(follow, growing) and not await self._may_adopt(part, agrees=agrees):
                self._files.close(follow.target.path)
                self._refuse(follow, Conflict("another file stands there, which is not the beginning of the box's"))
                return None
            if not agrees:
                return self._further(follow, await self._start_over(follow, "the box truncated or replaced it"))
            with anyio.CancelScope(shield=True):
                if follow.target.replaces is None and growing.length == 0:
                    await self._begin(part)
                content = await anyio.to_thread.run_sync(self._append, part)
                record = None if content is None else await self._record(part)
        except Damaged as e:
            if self._was_found(follow, growing):
                # Another program writes to a file that is not ours: leave it alone.
                self._files.close(follow.target.path)
                self._refuse(follow, e)
                return None
            return self._further(follow, await self._start_over(follow, str(e)))
        if content is None or record is None:
            self._failures.failed(follow.place, "its hash is not the one that the box told")
            return None
        self._verified.add(follow.target.path)
        self._failures.cleared(follow.place)
        await self._stepping.record_lines(record, content, part.end.version)
        if content:
            self.bytes += len(content)
            self.files.add(record.target)
            get_logger().info(
                Event.FILE_DOWNLOADED, host=self._host.name, path=record.target, bytes=len(content), kind=record.kind
            )
        # Bytes appended since the scan wait for the next one: a writer that never pauses must not keep this loop busy.
        wants_more = bool(content) and request.offset + len(part.content) < follow.source.version.size
        return replace(follow, target=replace(follow.target, replaces=record)) if wants_more else None

    def _was_found(self, follow: Follow, growing: GrowingFile) -> bool:
        """Return whether the local file was not created by us (or was, before a catalogue was lost)."""
        return follow.target.replaces is None and growing.length > 0

    async def _may_adopt(self, part: _Part, *, agrees: bool) -> bool:
        """Return whether a file that was found can be continued: it is a prefix of the host's, and ends at a record."""
        if not agrees or part.follow.kind is Kind.TRAIN_LOG or not part.content:
            return agrees
        return await self._files.ends_whole(part.follow.target.path, part.growing.length)

    async def _begin(self, part: _Part) -> None:
        """Record an empty file before anything is written to it.

        If a process died after writing the first bytes and before recording them, the next one could not tell them from
        the operator's own file as soon as the source is replaced.
        """
        await anyio.to_thread.run_sync(self._synced, part)
        await self._context.catalogue.save_files([_emptied(self._record_of(part, part.end.version))])

    def _synced(self, part: _Part) -> None:
        try:
            part.growing.sync()
        except BaseException:
            self._files.close(part.follow.target.path)
            raise

    def _append(self, part: _Part) -> bytes | None:
        """Append the whole lines or records of what was read; return the appended bytes, None if the hash is wrong."""
        if part.end.sha256 is not None and hashlib.sha256(part.content).hexdigest() != part.end.sha256:
            return None
        whole = len(part.content) if part.follow.whole else _whole(part.follow.kind, part.content)
        if whole == 0 and len(part.content) >= STEP and part.content.count(0) < len(part.content):
            whole = len(part.content)  # one line longer than a step: appended as it is, or it would never be complete
        content = part.content[:whole]
        try:
            part.growing.append(content)
        except BaseException:
            self._files.close(part.follow.target.path)
            raise
        self._synced(part)
        return content

    async def _record(self, part: _Part) -> FileRecord:
        growing, version = part.growing, part.end.version
        consumed = part.end.request.offset + len(part.content)
        # Only a version that was read to its end is recorded; any other makes the next scan request the rest.
        if version.size != consumed:
            version = replace(version, size=growing.length, mtime_ns=0)
        record = self._record_of(part, version)
        await self._context.catalogue.save_files([record])
        failpoints.reach("growing.recorded")
        self._context.changes.touch([record.experiment])
        return record

    def _record_of(self, part: _Part, version: Version) -> FileRecord:
        follow, growing = part.follow, part.growing
        return FileRecord(
            storage=self._context.storage_of(self._host),
            place=follow.place,
            target=follow.target.path,
            host=self._host.name,
            experiment=follow.target.experiment,
            kind=follow.kind,
            version=version,
            size=growing.length,
            sha256=growing.hexdigest(),
            fetched_at=time.time(),
            reason=follow.reason,
        )

    async def _start_over(self, follow: Follow, reason: str) -> GrowingFile | None:
        """Keep the local file as a version and start a new one; None if it can't be moved.

        The source may vanish before any of it arrives: the catalogue must not keep recording the old file, and must not
        record the new one before it exists.
        """
        path, before = follow.target.path, follow.target.replaces
        emptied = [] if before is None else [_emptied(before)]
        self._verified.discard(path)
        with anyio.CancelScope(shield=True):
            intent = await self._context.catalogue.intend(emptied)
            try:
                growing = await self._files.anew(path)
            except (Conflict, Refused) as e:
                await self._context.catalogue.save_files([], [intent])
                self._refuse(follow, e)
                return None
            await self._context.catalogue.save_files(emptied, [intent])
        self._context.changes.touch({record.experiment for record in emptied})
        get_logger().warning(
            Event.FILE_CONFLICT,
            host=self._host.name,
            path=path,
            error=f"{reason}; it starts anew, and what stood here is kept in .harvestd/versions",
            remote=follow.place,
        )
        return growing

    @staticmethod
    def _further(follow: Follow, restarted: GrowingFile | None) -> Follow | None:
        return None if restarted is None else replace(follow, target=replace(follow.target, replaces=None))

    def close(self) -> None:
        """Close all files, and discard their verified state: another host may append to them from now on."""
        self._files.close_all()
        self._verified.clear()


def _emptied(record: FileRecord) -> FileRecord:
    """Return the record of a file that starts anew: it exists here, and holds nothing of its source yet."""
    version = replace(record.version, size=0, mtime_ns=0)
    return replace(record, version=version, size=0, sha256=hashlib.sha256().hexdigest(), fetched_at=time.time())


def _whole(kind: Kind, content: bytes) -> int:
    return whole_lines(content) if kind is Kind.TRAIN_LOG else whole_records(content)
