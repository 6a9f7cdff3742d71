"""Decisions about releasing hosts and their outcomes, recorded before any request to the cloud.

A row that is still *asked* belongs to a process that ended in between: the request may have been sent.
"""

import time
from typing import Any

from msgspec.structs import replace
from sqlalchemy import Connection, Row, update

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import Database, insert, update_one
from harvestd.catalogue.entries import Decision, ReleaseOutcome
from harvestd.catalogue.references import host_id


class Releases:
    """The table of one catalogue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, decision: Decision) -> Decision:
        """Record a new decision; return it with its time and id. Raise `HaltedForSafety` if that fails."""
        at = time.time()
        row = {
            "at": at,
            "host": decision.host,
            "why": decision.why,
            "outcome": str(decision.outcome),
            "detail": decision.detail,
            "by_hand": decision.by_hand,
        }
        made: list[Decision] = []

        def change(connection: Connection) -> None:
            host = host_id(connection, decision.identity, decision.host)
            statement = insert(schema.releases).values({**row, "host_id": host}).returning(schema.releases.c.id)
            number = connection.execute(statement).scalar_one()
            made.append(replace(decision, at=at, id=int(number)))

        await self._database.write(change)
        return made[0]

    async def settle(self, decision: Decision) -> None:
        """Record the outcome of a recorded decision."""
        values = {"outcome": str(decision.outcome), "detail": decision.detail}
        statement = update(schema.releases).where(schema.releases.c.id == decision.id).values(values)
        await self._database.write(lambda connection: update_one(connection, statement))

    async def all(self) -> list[Decision]:
        """Return all decisions, oldest first."""

        def query(connection: Connection) -> list[Decision]:
            return [_decision(row) for row in connection.execute(rows.releases().order_by(_ID))]

        return await self._database.read(query)


_ID = schema.releases.c.id


def _decision(row: Row[Any]) -> Decision:
    return Decision(
        host=row.host,
        identity=row.identity,
        why=row.why,
        outcome=ReleaseOutcome(row.outcome),
        detail=row.detail,
        by_hand=row.by_hand,
        at=row.at,
        id=row.id,
    )
