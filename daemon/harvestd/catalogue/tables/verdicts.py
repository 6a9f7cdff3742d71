"""The newest verdict on each host, kept where commands find it beside the daemon or after it."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete
from sqlalchemy.dialects.sqlite import insert

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import Database
from harvestd.catalogue.entries import VerdictRecord
from harvestd.planning.requests import RequestKind

_KEPT = 3_600.0
"""Seconds for which a question that was answered stays on record: who asked has read the answer long before."""


class Verdicts:
    """Writes them."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, records: Sequence[VerdictRecord], now: float) -> None:
        """Record verdicts in place of those before, and forget old questions for one; `now` in Unix time.

        Raises `HaltedForSafety` where that can't be written.
        """
        values = [rows.verdict_row(each) for each in records]
        asked = schema.requests.c
        old = delete(schema.requests).where(asked.kind == RequestKind.JUDGE, asked.settled_at < now - _KEPT)

        def change(connection: Connection) -> None:
            for row in values:
                statement = insert(schema.verdicts).values(row)
                connection.execute(statement.on_conflict_do_update(index_elements=["identity"], set_=row))
            connection.execute(old)

        if values:
            await self._database.write(change)
