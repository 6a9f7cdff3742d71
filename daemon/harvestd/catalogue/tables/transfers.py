"""The journal of partly staged files: how many bytes of each are synced to disk, so that its transfer can resume."""

from collections.abc import Sequence

from msgspec.structs import asdict
from sqlalchemy import Connection, delete, select
from sqlalchemy.dialects.sqlite import insert

from harvestd.catalogue import schema
from harvestd.catalogue.engine import Database, sliced
from harvestd.catalogue.entries import Transfer


class Transfers:
    """All journalled transfers; every method raises `DiskFull` or `HaltedForSafety` as the database does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, transfer: Transfer) -> None:
        """Record how many bytes of a staged file are on disk."""
        row = asdict(transfer)
        statement = insert(schema.transfers).values(row).on_conflict_do_update(index_elements=["name"], set_=row)
        await self._database.write(lambda connection: connection.execute(statement))

    async def drop(self, names: Sequence[str]) -> None:
        """Delete transfers that are done or abandoned."""

        def change(connection: Connection) -> None:
            for some in sliced(names):
                connection.execute(delete(schema.transfers).where(schema.transfers.c.name.in_(some)))

        if names:
            await self._database.write(change)

    async def all(self) -> list[Transfer]:
        """Return all transfers."""

        def query(connection: Connection) -> list[Transfer]:
            return [Transfer(**row) for row in connection.execute(select(schema.transfers)).mappings()]

        return await self._database.read(query)
