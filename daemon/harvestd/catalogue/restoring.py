"""Rows that come back: those whose experiment was never recorded, taken over in one transaction."""

import time
from collections.abc import Sequence

from sqlalchemy import Connection, delete
from sqlalchemy.dialects.sqlite import insert

from harvestd.catalogue import rows, schema
from harvestd.catalogue.database import Database, sliced
from harvestd.catalogue.entries import Orphans
from harvestd.convention.knowledge import Knowledge
from harvestd.convention.records import ExperimentRecord


class Restoring:
    """Writes them."""

    def __init__(self, database: Database, knowledge: Knowledge) -> None:
        self._database = database
        self._knowledge = knowledge

    async def adopt(self, orphans: Orphans, adopted: Orphans, experiments: Sequence[ExperimentRecord]) -> None:
        """Record `adopted` in place of `orphans`, with the new experiments that they belong to.

        Of what is not among `adopted` the rows are dropped. Raises `HaltedForSafety`.
        """
        now = time.time()
        new = [{**rows.experiment_row(each), "created": now} for each in experiments]

        def change(connection: Connection) -> None:
            if new:
                connection.execute(insert(schema.experiments), new)
            for some in sliced([run.id for run in orphans.runs]):
                connection.execute(delete(schema.runs).where(schema.runs.c.id.in_(some)))
            for some in sliced([str(file.target) for file in orphans.files]):
                connection.execute(delete(schema.files).where(schema.files.c.target.in_(some)))
            if adopted.runs:
                connection.execute(insert(schema.runs), [rows.run_row(run) for run in adopted.runs])
            if adopted.files:
                connection.exec_driver_sql(rows.upsert_of_files(), [rows.file_row(file) for file in adopted.files])

        await self._database.write(change)
        for experiment in experiments:
            self._knowledge.learn_experiment(experiment)
        for run in adopted.runs:
            self._knowledge.learn_run(run)
        for file in adopted.files:
            self._knowledge.learn_file(file)
