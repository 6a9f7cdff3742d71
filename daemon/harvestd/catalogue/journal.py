"""Work that a process may leave unfinished: intents about local files, and partly staged transfers."""

import time
from collections.abc import Sequence
from itertools import groupby
from typing import Final

from sqlalchemy import Connection, delete

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import Database, insert, sliced
from harvestd.catalogue.entries import Intent, Transfer
from harvestd.catalogue.rows import SOURCE_COLUMNS, file_of_values, path_text, source_values
from harvestd.catalogue.schema import stored
from harvestd.catalogue.stored_records import volume_id, volume_ids
from harvestd.convention.paths import LocalPath
from harvestd.planning.records import FileRecord

_COLUMNS: Final = ("intent_id", "number", "target", "moved_from", "experiment_id", *SOURCE_COLUMNS)
# Plain SQL: SQLAlchemy would take longer for each publication than SQLite does.
_ADD_INTENT: Final = "INSERT INTO intents (at) VALUES (?) RETURNING id"
_DROP: Final = "DELETE FROM intents WHERE id = ?"
_ADD: Final = f"INSERT INTO intent_files ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
_STORAGE: Final = "(SELECT storage FROM volumes WHERE volumes.id = intent_files.volume_id)"
_ALL: Final = (
    "SELECT intents.id, target, moved_from, experiment_id, "  # noqa: S608
    f"{_STORAGE}, {', '.join(SOURCE_COLUMNS[1:])}"
    " FROM intents LEFT JOIN intent_files ON intent_id = intents.id ORDER BY intents.id, number"
)


def add_intent(connection: Connection, files: Sequence[FileRecord], moved_from: Sequence[LocalPath] = ()) -> int:
    """Record an intent for files; return its id. `moved_from`: the present path of each, if they are to be moved."""
    number = int(connection.exec_driver_sql(_ADD_INTENT, (time.time(),)).scalar_one())
    volumes = volume_ids(connection, {file.storage for file in files})
    before: Sequence[str | bytes | None] = [stored(str(path)) for path in moved_from] or [None] * len(files)
    values = [
        (number, at, stored(str(file.target)), old, file.experiment, *source_values(file, volumes[file.storage]))
        for at, (file, old) in enumerate(zip(files, before, strict=True))
    ]
    if values:
        connection.exec_driver_sql(_ADD, values)
    return number


def drop_intents(connection: Connection, intents: Sequence[Intent]) -> None:
    """Delete intents with the rows of their files."""
    if intents:
        connection.exec_driver_sql(_DROP, [(intent.id,) for intent in intents])


def open_intents(connection: Connection) -> list[Intent]:
    """Return all intents, oldest first."""
    found: list[Intent] = []
    for number, group in groupby(connection.exec_driver_sql(_ALL), key=lambda row: row[0]):
        own = [row for row in group if row[1] is not None]
        files = tuple(
            file_of_values(path_text(target), experiment, storage, source)
            for _, target, _, experiment, storage, *source in own
        )
        moved_from = tuple(LocalPath.parse(path_text(row[2])) for row in own if row[2] is not None)
        found.append(Intent(int(number), files, moved_from))
    return found


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
