"""Publishes staged files and keeps the catalogue consistent: intent, publish, record, then events.

A file is published only if it had the planned version before and after reading, if the host's hash equals ours, and if
its content is not visibly torn. No other file reaches the store.

Files that can't be published at their local path, for as long as the obstacle there stays unchanged. A refused file
is not fetched again in vain. As soon as the operator moves or changes the obstacle, the file is planned again,
without waiting for another connection.

Holds back content that may be incomplete, and adds a remark when it is published because it no longer changes.
Reading and hashing block, and take seconds for gigabytes: a large file is inspected in slices, between which the
inspection can be cancelled.
"""

import hashlib
import logging
import time
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice

import anyio
import anyio.to_thread
from structlog.typing import FilteringBoundLogger

from harvestd.bulkhead import backoff
from harvestd.catalogue.entries import Intent
from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.parse import InvalidFacts
from harvestd.convention.paths import LocalPath, encoded
from harvestd.convention.scan.completeness import CHECKED, HEAD_BYTES, check_content, check_form, check_part
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.structs import Immutable
from harvestd.harvest.context import Context
from harvestd.harvest.recovery import settle
from harvestd.inventory.host import Host
from harvestd.planning.plan import FetchFile, FetchGroup
from harvestd.planning.records import FileRecord, sections_of
from harvestd.planning.retention import is_provisional
from harvestd.store.checksums import Fingerprint, fingerprints, is_absent, verified
from harvestd.store.publish import Outcome, Publication, Result, publish
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import batched_events, get_logger

_Key = tuple[str, LocalPath]
_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 300.0


class Refusals(Mapping[_Key, tuple[Version, str]]):
    """Maps (remote path, local path) to the version that could not be published, and the reason.

    For one connected host.
    """

    def __init__(self) -> None:
        self._found: dict[_Key, tuple[Version, str]] = {}
        self._causes: dict[_Key, tuple[LocalPath, ...]] = {}
        self._before: dict[_Key, list[Fingerprint]] = {}
        """The fingerprints of the causes when they were first read."""
        self._absent: set[_Key] = set()
        """Refused once although the path was free."""
        self._times: dict[_Key, int] = {}
        """How often each was refused."""
        self._not_before: dict[_Key, float] = {}
        """When each may be tried again at the earliest, in monotonic seconds.

        Another program may write there all the time.
        """

    def __getitem__(self, key: _Key) -> tuple[Version, str]:
        return self._found[key]

    def __iter__(self) -> Iterator[_Key]:
        return iter(self._found)

    def __len__(self) -> int:
        return len(self._found)

    def note(self, place: str, target: LocalPath, version: Version, why: str, causes: Sequence[LocalPath] = ()) -> None:
        """Note that `version` of `place` can't be published at `target`.

        `causes`: the local paths that decide; `target` if there are none.
        """
        key = (place, target)
        self._found[key] = (version, why)
        self._causes[key] = tuple(causes) or (target,)
        self._before.pop(key, None)
        self._times[key] = times = self._times.get(key, 0) + 1
        self._not_before[key] = time.monotonic() + backoff(_FIRST_PAUSE, times, _LONGEST_PAUSE)

    async def heal(self, root: DataRoot) -> None:
        """Remove the refusals whose causes changed since the first call. Raise `HaltedForSafety`."""
        if not self._found:
            return
        keys = list(self._found)
        now = await anyio.to_thread.run_sync(self._present_versions, root, keys)
        for key, found in zip(keys, now, strict=True):
            if self._is_over(key, found):
                del self._found[key], self._causes[key]
                self._before.pop(key, None)

    def _present_versions(self, root: DataRoot, keys: Sequence[_Key]) -> list[list[Fingerprint]]:
        return [fingerprints(root, self._causes[key]) for key in keys]

    def _is_over(self, key: _Key, now: list[Fingerprint]) -> bool:
        before = self._before.setdefault(key, now)
        if time.monotonic() < self._not_before[key]:
            return False
        if before != now:
            return True
        gone = all(is_absent(path, found) for path, found in zip(self._causes[key], now, strict=True))
        if gone and key not in self._absent:
            # The obstacle vanished before its first fingerprint. If it was not the cause, one attempt is made in vain.
            self._absent.add(key)
            return True
        return False


def inspect(file: FetchFile, staged: Staged) -> str | None:
    """Return why the content of a whole staged file must not be published; None if it may be. Blocks."""
    try:
        for _ in _slices(file, staged):
            pass
    except InvalidFacts as e:
        return _doubt(file, staged, str(e))
    return None


async def inspected(file: FetchFile, staged: Staged) -> str | None:
    """Return the same as `inspect`, computed in worker threads."""
    if not file.as_is and not file.source.path.name.endswith(CHECKED):
        return None
    slices = _slices(file, staged)
    try:
        while await anyio.to_thread.run_sync(_next, slices):
            pass
    except InvalidFacts as e:
        return _doubt(file, staged, str(e))
    return None


def _slices(file: FetchFile, staged: Staged) -> Iterator[None]:
    name = file.source.path.name
    if file.as_is:
        check_form(name, staged.read(0, HEAD_BYTES), staged.size)
    yield from verified(name, staged.size, staged.read)


def _next(slices: Iterator[None]) -> bool:
    """Inspect one slice; return whether there is another."""
    return next(slices, StopIteration) is not StopIteration


def _doubt(file: FetchFile, staged: Staged, flaw: str) -> str | None:
    if not file.as_is:
        return flaw
    staged.remark = f"it was so on the host for long: {flaw}"
    return None


_HERE = frozenset({Result.PUBLISHED, Result.ADOPTED})
_NO_BYTES = "it had no bytes on the box"
"""The remark for an empty file that was published as it was; a full disk on the host leaves such files behind."""
_COMPLETED = {Kind.CHECKPOINT: Event.CHECKPOINT_COMPLETED}


class StagedFile(Immutable, gc=False):
    """One file, whole in staging: one copy for each of its targets."""

    file: FetchFile
    copies: tuple[Staged, ...]


class StagedGroup(Immutable):
    """All files of a group, whole in staging, in the order of publishing."""

    group: FetchGroup
    files: tuple[StagedFile, ...]
    started: float
    """When its first byte was requested, in monotonic seconds."""
    is_last: bool = True
    """Whether this completes the group: a group with very many targets is published in slices."""


class Publisher:
    """Publishes files for one host."""

    def __init__(self, host: Host, context: Context, root: DataRoot, refused: Refusals) -> None:
        """`refused` receives the conflicts, for the planner."""
        self._host = host
        self._context = context
        self._root = root
        self._refused = refused
        self.files = 0
        """Files published so far."""
        self.bytes = 0
        """Bytes of them."""
        self.conflicts: dict[LocalPath, str] = {}
        """Local paths that hold something else, with the store's explanation."""

    async def publish(self, groups: Sequence[StagedGroup]) -> None:
        """Publish the groups. Raise `DiskFull` and `HaltedForSafety`; what was published by then stays.

        The copies are closed in every case. Once files move, no cancellation can separate them from their rows.
        """
        try:
            await self._publish(groups)
        finally:
            for copy in (copy for group in groups for staged in group.files for copy in staged.copies):
                if not copy.closed:
                    copy.close()

    async def _publish(self, groups: Sequence[StagedGroup]) -> None:
        await self._context.check_directories()
        async with self._context.directory_lock.still():
            await self._settle_failed()
            publications, records = self._prepared(groups)
            async with self._context.catalogue.files.loaded(sections_of(records)):
                with anyio.CancelScope(shield=True):
                    intent = await self._context.catalogue.intend(records)
                    try:
                        outcomes = await anyio.to_thread.run_sync(publish, self._root, publications)
                        await self._settle(intent, outcomes)
                    except Exception:
                        self._context.unsettled_intents.append(intent)
                        raise
        with batched_events():
            self._log_published(groups, outcomes)

    async def _settle_failed(self) -> None:
        """Record what earlier calls, on any connection, had published before they failed."""
        failed, self._context.unsettled_intents = self._context.unsettled_intents, []
        if failed:
            try:
                recorded = await settle(self._context.catalogue, self._root, failed)
            except Exception:
                self._context.unsettled_intents += failed
                raise
            self._context.changes.touch({record.experiment for record in recorded})

    def _prepared(self, groups: Sequence[StagedGroup]) -> tuple[list[Publication], list[FileRecord]]:
        """Return the publications for the store and the records for the catalogue, in the same order."""
        publications: list[Publication] = []
        records: list[FileRecord] = []
        storage, host, now = self._context.storage_of(self._host), self._host.name, time.time()
        knowledge = self._context.catalogue.knowledge
        for group in groups:
            for staged in group.files:
                file = staged.file
                source = file.source
                for copy, target in zip(staged.copies, file.targets, strict=True):
                    replaces = target.replaces.sha256 if target.replaces else None
                    # The experiment may have been renamed since it was planned.
                    path = knowledge.placed(target.path, target.experiment)
                    publications.append(Publication(copy, path, replaces))
                    records.append(
                        FileRecord(
                            storage=storage,
                            place=source.place,
                            target=path,
                            host=host,
                            experiment=target.experiment,
                            kind=file.kind,
                            version=source.version,
                            # The same number object, where it is the same number: there are many records.
                            size=source.version.size if source.version.size == copy.size else copy.size,
                            sha256=copy.hexdigest,
                            fetched_at=now,
                            reason="; ".join(filter(None, (file.reason, _flag(staged)))),
                            marker=file.marker,
                        )
                    )
        return publications, records

    async def _settle(self, intent: Intent, outcomes: Sequence[Outcome]) -> None:
        both = list(zip(intent.files, outcomes, strict=True))
        saved = [
            record
            for record, outcome in both
            if outcome.result in _HERE and not (outcome.result is Result.ADOPTED and self._is_of_another(record))
        ]
        await self._context.catalogue.save_files(saved, [intent])
        self._context.changes.touch({record.experiment for record in saved})
        for record, outcome in both:
            if outcome.result in _HERE:
                self.conflicts.pop(record.target, None)
            else:
                self._note_conflict(record, outcome)
        self.files += len(saved)
        self.bytes += sum(record.size for record in saved)
        self._context.monitor.settled(self._host.name, len(saved))

    def _is_of_another(self, record: FileRecord) -> bool:
        """Return whether the record at this local path is of another source by now.

        Two hosts may publish at the same time. The next plan compares the two, and takes all files of a group together.
        """
        holder = self._context.catalogue.knowledge.holder(record.target)
        return holder is not None and (holder.storage, holder.place) != (record.storage, record.place)

    def _note_conflict(self, record: FileRecord, outcome: Outcome) -> None:
        self._refused.note(record.place, record.target, record.version, f"{outcome.result}: {outcome.detail}")
        self.conflicts[record.target] = outcome.detail
        get_logger().warning(
            Event.FILE_CONFLICT, host=self._host.name, path=record.target, error=outcome.detail, remote=record.place
        )

    def _log_published(self, groups: Sequence[StagedGroup], outcomes: Sequence[Outcome]) -> None:
        log = get_logger().bind(host=self._host.name)
        now = time.monotonic()
        remaining = iter(outcomes)
        for group in groups:
            duration = round(now - group.started, 3)
            log = log.bind(transfer=transfer_name(self._host.name, group.group.place))
            for staged in group.files:
                for outcome in islice(remaining, len(staged.copies)):
                    if outcome.result is Result.PUBLISHED:
                        error = _flag(staged)
                        flag = {"error": error} if error else {}
                        log.log(
                            logging.WARNING if flag else logging.INFO,
                            Event.FILE_DOWNLOADED,
                            path=outcome.target,
                            bytes=outcome.size,
                            duration_seconds=duration,
                            kind=staged.file.kind,
                            **flag,
                        )
            if group.is_last and any(staged.file.marker or staged.file.kind is Kind.METRICS for staged in group.files):
                self._log_completed(log, group, duration)

    def _log_completed(self, log: FilteringBoundLogger, group: StagedGroup, duration: float) -> None:
        first = group.files[0].file
        experiment = first.targets[0].experiment
        log.info(
            _COMPLETED.get(first.kind, Event.EVAL_COMPLETED),
            path=group.group.place,
            experiment=self._context.catalogue.knowledge.experiment(experiment).directory if experiment else None,
            bytes=sum(staged.copies[0].size for staged in group.files),
            duration_seconds=duration,
            **({"provisional": is_provisional(first.reason)} if first.kind is Kind.CHECKPOINT else {}),
        )


def _flag(staged: StagedFile) -> str:
    """Return the remark on a file that was published as it was; empty: none."""
    first = staged.copies[0]
    return first.remark if first.size else _NO_BYTES


def transfer_name(host: str, place: str) -> str:
    """Return an id for the events of one group, the same whenever and however often it is fetched."""
    return hashlib.blake2b(encoded(f"{host}:{place}"), digest_size=4).hexdigest()


def reason_to_doubt(file: FetchFile, opened: Version, closed: Version, head: bytes) -> str | None:
    """Return why a file that was read must not be published; None if it may be."""
    planned = file.source.version
    if opened != planned or closed != planned:
        return "it changed on the box while it was read"
    try:
        # For a file that is taken as it is, `refusals` checks the form and adds a remark.
        check = check_part if file.as_is else check_content
        check(file.source.path.name, head, planned.size, file.beside)
    except InvalidFacts as e:
        return str(e)
    return None
