"""From staged bytes to files at their places, with the catalogue in step: intent, publish, record, tell.

A file that was read is believed only if it is the version that was planned, before and after reading, if the box's hash
of it is ours, and if its content is not visibly torn. Nothing else gets as far as the store.
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio
import anyio.to_thread

from harvestd.convention.artifacts import Kind
from harvestd.convention.facts import InvalidFacts
from harvestd.convention.paths import LocalPath
from harvestd.convention.plan import FetchFile, FetchGroup, Target
from harvestd.convention.records import FileRecord
from harvestd.convention.seals import check_content
from harvestd.convention.snapshot import Version
from harvestd.harvest.house import House
from harvestd.inventory.provider import Host
from harvestd.store.publishing import Outcome, Publication, Result, publish
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

_COMPLETED = {Kind.CHECKPOINT: Event.CHECKPOINT_COMPLETED}


@dataclass(frozen=True, slots=True)
class StagedFile:
    """One file, whole in staging: a copy for each of its targets."""

    file: FetchFile
    copies: tuple[Staged, ...]


@dataclass(frozen=True, slots=True)
class StagedGroup:
    """All files of a group, whole in staging, in the order of publishing."""

    group: FetchGroup
    files: tuple[StagedFile, ...]
    started: float
    """Monotonic seconds when its first byte was asked for."""


class Publisher:
    """Publishes for one host."""

    def __init__(
        self, host: Host, house: House, root: DataRoot, refused: dict[tuple[str, LocalPath], tuple[Version, str]]
    ) -> None:
        """`refused` is where conflicts are noted for the planner."""
        self._host = host
        self._house = house
        self._root = root
        self._refused = refused
        self.files = 0
        """Files put at their places so far."""
        self.bytes = 0
        """Bytes of them."""
        self.conflicts: dict[LocalPath, str] = {}
        """Places at home that hold something else, and what the store said of them."""

    async def publish(self, groups: Sequence[StagedGroup]) -> None:
        """Put the groups at their places. Raises `DiskFull` and `HaltedForSafety`; what is done then stays done.

        The copies are closed in every case. Once files move, no cancellation comes between them and their rows.
        """
        try:
            await self._publish(groups)
        finally:
            for copy in (copy for group in groups for staged in group.files for copy in staged.copies):
                if not copy.closed:
                    copy.close()

    async def _publish(self, groups: Sequence[StagedGroup]) -> None:
        pairs = [
            (staged.file, copy, target)
            for group in groups
            for staged in group.files
            for copy, target in zip(staged.copies, staged.file.targets, strict=True)
        ]
        records = {target.path: self._record(file, copy, target) for file, copy, target in pairs}
        await self._house.catalogue.intend(list(records.values()))
        publications = [
            Publication(copy, target.path, target.replaces.sha256 if target.replaces else None)
            for _, copy, target in pairs
        ]
        with anyio.CancelScope(shield=True):
            outcomes = await anyio.to_thread.run_sync(publish, self._root, publications)
            await self._settle(records, outcomes)
        for group in groups:
            self._tell(group, records, {outcome.target: outcome for outcome in outcomes})

    def _record(self, file: FetchFile, copy: Staged, target: Target) -> FileRecord:
        return FileRecord(
            storage=self._house.storage_of(self._host),
            place=file.source.place,
            target=target.path,
            host=self._host.name,
            experiment=target.experiment,
            kind=file.kind,
            version=file.source.version,
            size=copy.size,
            sha256=copy.hexdigest,
            fetched_at=time.time(),
            reason=file.reason,
            marker=file.marker,
        )

    async def _settle(self, records: Mapping[LocalPath, FileRecord], outcomes: Sequence[Outcome]) -> None:
        here = [outcome for outcome in outcomes if outcome.result in {Result.PUBLISHED, Result.ADOPTED}]
        not_here = [outcome for outcome in outcomes if outcome.result in {Result.CONFLICT, Result.REFUSED}]
        saved = [records[outcome.target] for outcome in here]
        await self._house.catalogue.save_files(saved, [outcome.target for outcome in not_here])
        self._house.touch(record.experiment for record in saved)
        for outcome in not_here:
            record = records[outcome.target]
            self._refused[record.place, record.target] = (record.version, f"{outcome.result}: {outcome.detail}")
            self.conflicts[record.target] = outcome.detail
            get_logger().warning(
                Event.FILE_CONFLICT,
                host=self._host.name,
                path=outcome.target,
                error=outcome.detail,
                remote=record.place,
            )
        self.files += len(here)
        self.bytes += sum(outcome.size for outcome in here)
        self._house.monitor.settled(self._host.name, len(here))

    def _tell(
        self, group: StagedGroup, records: Mapping[LocalPath, FileRecord], outcomes: Mapping[LocalPath, Outcome]
    ) -> None:
        log = get_logger().bind(host=self._host.name)
        duration = round(time.monotonic() - group.started, 3)
        for staged in group.files:
            for target in staged.file.targets:
                if outcomes[target.path].result is Result.PUBLISHED:
                    log.info(
                        Event.FILE_DOWNLOADED,
                        path=target.path,
                        bytes=outcomes[target.path].size,
                        duration_seconds=duration,
                        kind=staged.file.kind,
                    )
        kinds = {staged.file.kind for staged in group.files}
        if any(staged.file.marker for staged in group.files) or Kind.METRICS in kinds:
            event = _COMPLETED.get(next(iter(kinds)), Event.EVAL_COMPLETED)
            experiment = records[group.files[0].file.targets[0].path].experiment
            directory = self._house.catalogue.knowledge.experiment(experiment).directory if experiment else None
            size = sum(staged.copies[0].size for staged in group.files)
            log.info(event, path=group.group.place, experiment=directory, bytes=size, duration_seconds=duration)


def reason_to_doubt(file: FetchFile, opened: Version, closed: Version, head: bytes) -> str | None:
    """Tell why what was read must not be published; None if nothing speaks against it."""
    planned = file.source.version
    if opened != planned or closed != planned:
        return "it changed on the box while it was read"
    try:
        check_content(file.source.path.name, head, planned.size)
    except InvalidFacts as e:
        return str(e)
    return None
