"""The devices of hosts' trees at the time when something was first seen in them, kept permanently.

They are in `meta`, one row per host: written once per host, and read once per connection.
"""

import json
from collections.abc import Mapping

from sqlalchemy import ColumnElement, Connection, delete, select

from harvestd.catalogue import schema
from harvestd.catalogue.engine import Database, insert

_KEY = "devices of {}"


class Devices:
    """The devices of every host, by its identity."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, identity: str) -> dict[str, int]:
        """Return a host's devices by the path of a root or tree; raise `HaltedForSafety` if unreadable."""

        def query(connection: Connection) -> str | None:
            return connection.execute(select(schema.meta.c.value).where(_of(identity))).scalar()

        found = await self._database.read(query)
        return {} if found is None else {str(place): int(device) for place, device in json.loads(found).items()}

    async def save(self, identity: str, devices: Mapping[str, int]) -> None:
        """Replace a host's devices; raise `HaltedForSafety` if that fails."""
        row = {"key": _KEY.format(identity), "value": json.dumps(dict(devices))}
        statement = insert(schema.meta).values(row).on_conflict_do_update(index_elements=["key"], set_=row)
        await self._database.write(lambda connection: connection.execute(statement))


def forget_devices(connection: Connection, identity: str) -> bool:
    """Delete the devices of a host at the operator's request; return whether there were any."""
    return connection.execute(delete(schema.meta).where(_of(identity))).rowcount > 0


def _of(identity: str) -> ColumnElement[bool]:
    return schema.meta.c.key == _KEY.format(identity)
