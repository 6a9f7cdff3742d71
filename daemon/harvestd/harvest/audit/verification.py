"""The audit of a data root, with or without a running daemon. Changes nothing."""

import time
from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Connection

from harvestd.audit import auditing
from harvestd.audit.findings import Finding, Kind
from harvestd.catalogue import queries
from harvestd.catalogue.open import damage_of
from harvestd.convention.structs import Immutable
from harvestd.planning.records import ExperimentRecord, FileRecord
from harvestd.planning.sections import UNFILED
from harvestd.settings import Settings
from harvestd.store.lock import holder
from harvestd.store.root import DataRoot

_PATIENCE = 120.0
"""Seconds for a process to record what it published: a busy disk may take long to sync a batch."""
_PAUSE = 0.05


class Subject(Immutable):
    """What is to be verified."""

    files: Sequence[FileRecord]
    experiments: Sequence[ExperimentRecord]

    @property
    def size(self) -> int:
        """Bytes that are to be hashed."""
        return sum(file.size for file in self.files)


def everything(connection: Connection) -> Subject:
    """Return everything that is on record."""
    return Subject(queries.all_files(connection), tuple(queries.experiments(connection).values()))


def catalogue_findings(settings: Settings) -> list[Finding]:
    """Return what is wrong with the catalogue itself; if anything is, nothing else can be audited."""
    damage = damage_of(settings.state)
    return [Finding(Kind.CATALOGUE, str(settings.state), damage)] if damage else []


def findings(
    settings: Settings, connection: Connection, subject: Subject, checked: Callable[[FileRecord], None]
) -> Iterator[Finding]:
    """Yield what differs from its record; `checked` is called with each file that was read. Blocks.

    Transfers of a running daemon are not findings. Raise `Fatal` if there is no data root.
    """
    with DataRoot.open(settings.data_root, create=False) as root:
        records = _Records(connection, has_writer=holder(root) is not None)
        yield from auditing.of_files(root, subject.files, records.now_of, checked)
        directories = {experiment.directory for experiment in subject.experiments} | {UNFILED}
        with queries.fresh(connection):
            known = {file.target for file in queries.all_files(connection)}
            links = queries.links(connection)
        yield from records.lasting(auditing.of_strangers(root, directories, known, links))
        if not records.has_writer:
            with queries.fresh(connection):
                journalled, intended = queries.journalled(connection), queries.intended(connection)
            yield from auditing.of_staging(root, journalled, intended)
            yield from auditing.of_manifests(root, subject.experiments, subject.files)


class _Records:
    """Reads the present records, while another process may write them."""

    def __init__(self, connection: Connection, *, has_writer: bool) -> None:
        self._connection = connection
        self.has_writer = has_writer
        connection.rollback()  # earlier queries must not pin a snapshot while files are hashed

    def now_of(self, file: FileRecord) -> FileRecord | None:
        """Return a file's present record, whatever its path is now; None if there is none any more.

        Wait while the daemon is publishing the file: the disk is ahead of the record then.
        """
        deadline = time.monotonic() + _PATIENCE
        while True:
            with queries.fresh(self._connection) as connection:
                found = queries.file_at(connection, str(file.target))
                if found is None:
                    return queries.file_from(connection, file.storage, file.place, file.experiment)
                waits = self.has_writer and found == file and queries.is_under_way(connection, file)
            if not waits or time.monotonic() >= deadline:
                return found
            time.sleep(_PAUSE)

    def lasting(self, found: Iterator[Finding]) -> Iterator[Finding]:
        """Skip findings about files that were recorded, or removed, since the records were read."""
        for finding in found:
            with queries.fresh(self._connection) as connection:
                if finding.kind is Kind.MISSING and queries.link_at(connection, finding.path) is None:
                    continue
                if finding.kind is Kind.FOREIGN and self._is_known(connection, finding.path):
                    continue
            yield finding

    @staticmethod
    def _is_known(connection: Connection, path: str) -> bool:
        if queries.file_at(connection, path) or queries.link_at(connection, path) is not None:
            return True
        return path in {str(file.target) for file in queries.intended(connection)}
