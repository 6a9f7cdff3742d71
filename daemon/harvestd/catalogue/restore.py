"""Restores rows in one transaction: all of a lost catalogue, or those whose experiment was never recorded."""

from collections.abc import Mapping, Sequence

from msgspec import field
from msgspec.structs import replace
from sqlalchemy import Connection, delete, select

from harvestd.catalogue import rows, schema, stored_files
from harvestd.catalogue.engine import Database, insert
from harvestd.catalogue.entries import Orphans
from harvestd.catalogue.hosts import LeftOutRecords, row_of
from harvestd.catalogue.requests import add_request
from harvestd.catalogue.stored_records import add_links, add_runs, restore_experiments
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.structs import Immutable
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord, sections_of
from harvestd.planning.requests import Request


class RestoredRecords(Immutable):
    """Everything that the manifests and files of a data root contain."""

    experiments: Sequence[ExperimentRecord] = ()
    runs: Sequence[RunRecord] = ()
    files: Sequence[FileRecord] = ()
    links: Mapping[LocalPath, str] = field(default_factory=dict)
    requests: Sequence[Request] = ()
    """Without ids."""
    left_out: Sequence[tuple[str, str | None, LeftOut]] = ()
    """As (host, experiment, entry)."""


class RecordRestorer:
    """Writes restored rows."""

    def __init__(self, database: Database, knowledge: PlanningIndex, left_out: LeftOutRecords) -> None:
        self._database = database
        self._knowledge = knowledge
        self._left_out = left_out
        self.is_pending = False
        """Whether the content of the data root is not in the catalogue yet."""

        self.orphans = Orphans()
        """Rows of an earlier version whose experiment is not on record; the index does not have them."""

    def load(self, connection: Connection) -> None:
        """Read whether an earlier process was interrupted before the restoration, and the orphans."""
        table = schema.meta.c
        noted = connection.execute(select(table.value).where(table.key == schema.REBUILD))
        self.is_pending = noted.scalar() is not None
        kept = connection.execute(select(table.value).where(table.key == schema.ORPHANS)).scalar()
        self.orphans = Orphans() if kept is None else rows.orphans_of(kept)

    async def restore(self, found: RestoredRecords) -> None:
        """Record everything, and that nothing is pending any more. Raise `HaltedForSafety` if that fails."""
        left_out = [row_of(host, None, experiment, entry) for host, experiment, entry in found.left_out]
        numbers: list[int] = []

        def change(connection: Connection) -> None:
            restore_experiments(connection, found.experiments)
            add_runs(connection, found.runs)
            stored_files.save(connection, found.files)
            add_links(connection, found.links)
            numbers.extend(add_request(connection, request) for request in found.requests)
            if left_out:
                connection.execute(insert(schema.left_out), left_out)
            connection.execute(delete(schema.meta).where(schema.meta.c.key == schema.REBUILD))

        await self._database.write(change)
        self.is_pending = False
        self._index_rows(found.experiments, found.runs, found.files)
        for path, target in found.links.items():
            self._knowledge.add_link(path, target)
        for number, request in zip(numbers, found.requests, strict=True):
            self._knowledge.add_request(replace(request, id=number))
        self._left_out.add_restored(found.left_out)

    async def adopt(self, adopted: Orphans, experiments: Sequence[ExperimentRecord]) -> None:
        """Record `adopted`, with the new experiments to which they belong, and delete all orphans.

        Raise `HaltedForSafety` if that fails.
        """

        def change(connection: Connection) -> None:
            restore_experiments(connection, experiments)
            add_runs(connection, adopted.runs)
            stored_files.save(connection, adopted.files)
            connection.execute(delete(schema.meta).where(schema.meta.c.key == schema.ORPHANS))

        await self._database.write(change)
        self.orphans = Orphans()
        self._index_rows(experiments, adopted.runs, adopted.files)

    def _index_rows(
        self, experiments: Sequence[ExperimentRecord], runs: Sequence[RunRecord], files: Sequence[FileRecord]
    ) -> None:
        for experiment in experiments:
            self._knowledge.add_experiment(experiment)
        for run in runs:
            self._knowledge.add_run(run)
        # The files stay in the database until they are needed.
        self._knowledge.mark_unloaded(sections_of(files), {file.storage for file in files})
