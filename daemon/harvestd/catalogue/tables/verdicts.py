"""The newest verdict on each host, readable for commands during and after the daemon's run."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import Database, insert
from harvestd.catalogue.entries import VerdictRecord
from harvestd.catalogue.references import host_id
from harvestd.planning.requests import RequestKind

_KEPT = 3_600.0
"""Seconds for which a settled request for a verdict is kept: the requester has read the answer long before."""


class Verdicts:
    """Writes verdicts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, records: Sequence[VerdictRecord], now: float) -> None:
        """Replace recorded verdicts, and delete old settled requests for verdicts; `now` in Unix time.

        Raise `HaltedForSafety` if that can't be written.
        """
        asked = schema.requests.c
        old = delete(schema.requests).where(asked.kind == RequestKind.JUDGE, asked.settled_at < now - _KEPT)

        def change(connection: Connection) -> None:
            for each in records:
                row = rows.verdict_row(each, host_id(connection, each.identity, each.name))
                statement = insert(schema.verdicts).values(row)
                connection.execute(statement.on_conflict_do_update(index_elements=["host_id"], set_=row))
            connection.execute(old)

        if records:
            await self._database.write(change)
