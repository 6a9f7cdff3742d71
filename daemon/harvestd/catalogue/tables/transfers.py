"""The journal of partly staged files: how many bytes of each are synced to disk, so that its transfer can resume."""

from collections.abc import Sequence

from sqlalchemy import Connection, delete

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import Database, insert, sliced
from harvestd.catalogue.entries import Transfer
from harvestd.catalogue.references import volume_id


class Transfers:
    """All journalled transfers; every method raises `DiskFull` or `HaltedForSafety` as the database does."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, transfer: Transfer) -> None:
        """Record how many bytes of a staged file are on disk."""

        def change(connection: Connection) -> None:
            row = {
                "name": transfer.name,
                "volume_id": volume_id(connection, transfer.storage),
                "place": transfer.place,
                "synced": transfer.synced,
            }
            statement = insert(schema.transfers).values(row)
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=row))

        await self._database.write(change)

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
            found = connection.execute(rows.transfers())
            return [Transfer(row.name, row.storage, row.place, row.synced) for row in found]

        return await self._database.read(query)
