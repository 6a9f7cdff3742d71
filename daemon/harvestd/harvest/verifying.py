"""The audit of a data root, beside a running daemon or without one. Changes nothing."""

from collections.abc import Callable, Iterator, Sequence

from sqlalchemy import Connection

from harvestd.audit import auditing
from harvestd.audit.findings import Finding, Kind
from harvestd.catalogue import reading
from harvestd.catalogue.damage import damage_of
from harvestd.convention.placing import UNFILED
from harvestd.convention.records import ExperimentRecord, FileRecord
from harvestd.convention.values import Immutable
from harvestd.settings import Settings
from harvestd.store.lock import holder
from harvestd.store.root import DataRoot


class Subject(Immutable):
    """What is to be verified."""

    files: Sequence[FileRecord]
    experiments: Sequence[ExperimentRecord]

    @property
    def size(self) -> int:
        """Bytes that are to be hashed."""
        return sum(file.size for file in self.files)


def everything(connection: Connection) -> Subject:
    """Give all that the catalogue knows."""
    return Subject(reading.all_files(connection), tuple(reading.experiments(connection).values()))


def catalogue_findings(settings: Settings) -> list[Finding]:
    """Say what is wrong with the catalogue itself; nothing else can be asked while anything is."""
    damage = damage_of(settings.state)
    return [Finding(Kind.CATALOGUE, str(settings.state), damage)] if damage else []


def findings(
    settings: Settings, connection: Connection, subject: Subject, checked: Callable[[FileRecord], None]
) -> Iterator[Finding]:
    """Give what is not as it is on record; `checked` hears of each file that was read. Blocks.

    What a running daemon has on its way is no finding. Raises `Fatal` where there is no data root.
    """

    def now_of(file: FileRecord) -> FileRecord | None:
        return reading.file_at(connection, str(file.target))

    with DataRoot.open(settings.data_root, create=False) as root:
        yield from auditing.of_files(root, subject.files, now_of, checked)
        directories = {experiment.directory for experiment in subject.experiments} | {UNFILED}
        known = {file.target for file in reading.all_files(connection)}
        yield from auditing.of_strangers(root, directories, known, reading.links(connection))
        if holder(root) is None:
            yield from auditing.of_staging(root, reading.journalled(connection), reading.intended(connection))
            yield from auditing.of_manifests(root, subject.experiments, subject.files)
