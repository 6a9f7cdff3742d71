"""Restores rows in one transaction: all of a lost catalogue, or those whose experiment was never recorded."""

import time
from collections.abc import Mapping, Sequence

from msgspec import field
from msgspec.structs import replace
from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import Database, sliced
from harvestd.catalogue.entries import Orphans
from harvestd.catalogue.tables.left_out import LeftOutRecords, row_of
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.structs import Immutable
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord, sections_of
from harvestd.planning.requests import Request


class ReadBack(Immutable):
    """Everything that the manifests and files of a data root contain."""

    experiments: Sequence[ExperimentRecord] = ()
    runs: Sequence[RunRecord] = ()
    files: Sequence[FileRecord] = ()
    links: Mapping[LocalPath, str] = field(default_factory=dict)
    requests: Sequence[Request] = ()
    """Without ids."""
    left_out: Sequence[tuple[str, str | None, LeftOut]] = ()
    """As (host, experiment, entry)."""


class Restoring:
    """Writes restored rows."""

    def __init__(self, database: Database, knowledge: PlanningIndex, left_out: LeftOutRecords) -> None:
        self._database = database
        self._knowledge = knowledge
        self._left_out = left_out
        self.is_pending = False
        """Whether the content of the data root is not in the catalogue yet."""

    def load(self, connection: Connection) -> None:
        """Read whether an earlier process was interrupted before the restoration."""
        noted = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == schema.REBUILD))
        self.is_pending = noted.scalar() is not None

    async def restore(self, found: ReadBack) -> None:
        """Record everything, and that nothing is pending any more. Raise `HaltedForSafety` if that fails."""
        new = _new_rows(found.experiments)
        left_out = [row_of(host, None, experiment, entry) for host, experiment, entry in found.left_out]
        numbers: list[int] = []

        def change(connection: Connection) -> None:
            if new:
                connection.execute(insert(schema.experiments), new)
            _insert_runs_and_files(connection, found.runs, found.files)
            if found.links:
                values = [{"path": str(path), "target": target} for path, target in found.links.items()]
                connection.execute(insert(schema.links), values)
            for request in found.requests:
                statement = insert(schema.requests).values(rows.request_row(request)).returning(schema.requests.c.id)
                numbers.append(connection.execute(statement).scalar_one())
            if left_out:
                connection.execute(insert(schema.left_out), left_out)
            connection.execute(delete(schema.meta).where(schema.meta.c.key == schema.REBUILD))

        await self._database.write(change)
        self.is_pending = False
        self._learn(found.experiments, found.runs, found.files)
        for path, target in found.links.items():
            self._knowledge.learn_link(path, target)
        for number, request in zip(numbers, found.requests, strict=True):
            self._knowledge.learn_request(replace(request, id=number))
        self._left_out.learn(found.left_out)

    async def adopt(self, orphans: Orphans, adopted: Orphans, experiments: Sequence[ExperimentRecord]) -> None:
        """Replace `orphans` by `adopted`, with the new experiments to which these belong.

        Rows of orphans that are not in `adopted` are deleted. Raise `HaltedForSafety` if that fails.
        """
        new = _new_rows(experiments)

        def change(connection: Connection) -> None:
            if new:
                connection.execute(insert(schema.experiments), new)
            for some in sliced([run.id for run in orphans.runs]):
                connection.execute(delete(schema.runs).where(schema.runs.c.id.in_(some)))
            for some in sliced([str(file.target) for file in orphans.files]):
                connection.execute(delete(schema.files).where(schema.files.c.target.in_(some)))
            _insert_runs_and_files(connection, adopted.runs, adopted.files)

        await self._database.write(change)
        self._learn(experiments, adopted.runs, adopted.files)

    def _learn(
        self, experiments: Sequence[ExperimentRecord], runs: Sequence[RunRecord], files: Sequence[FileRecord]
    ) -> None:
        for experiment in experiments:
            self._knowledge.learn_experiment(experiment)
        for run in runs:
            self._knowledge.learn_run(run)
        # The files stay in the database until they are needed.
        self._knowledge.mark_unloaded(sections_of(files), {file.storage for file in files})


def _new_rows(experiments: Sequence[ExperimentRecord]) -> list[dict[str, object]]:
    now = time.time()
    return [{**rows.experiment_row(each), "created": now} for each in experiments]


def _insert_runs_and_files(connection: Connection, runs: Sequence[RunRecord], files: Sequence[FileRecord]) -> None:
    if runs:
        connection.execute(insert(schema.runs), [rows.run_row(run) for run in runs])
    if files:
        connection.exec_driver_sql(rows.upsert_of_files(), [rows.file_row(file) for file in files])
