"""The journal of files that are half in staging: how far each is surely on disk, so that it goes on from there."""

from collections.abc import Sequence

import anyio.to_thread
from msgspec.structs import asdict
from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from harvestd.catalogue import schema
from harvestd.catalogue.engine import Database, sliced, translated
from harvestd.catalogue.entries import Transfer


class Transfers:
    """All journalled transfers; everything here raises `DiskFull` or `HaltedForSafety` as the database does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, transfer: Transfer) -> None:
        """Journal how many bytes of a staged file are on disk."""
        row = asdict(transfer)
        statement = insert(schema.transfers).values(row).on_conflict_do_update(index_elements=["name"], set_=row)
        await self._database.write(lambda connection: connection.execute(statement))

    async def drop(self, names: Sequence[str]) -> None:
        """Forget transfers that are done or given up."""

        def change(connection: Connection) -> None:
            for some in sliced(names):
                connection.execute(delete(schema.transfers).where(schema.transfers.c.name.in_(some)))

        if names:
            await self._database.write(change)

    async def all(self) -> list[Transfer]:
        """Return all of them."""

        def query() -> list[Transfer]:
            with translated(), self._database.engine.connect() as connection:
                return [Transfer(**row) for row in connection.execute(select(schema.transfers)).mappings()]

        return await anyio.to_thread.run_sync(query)
