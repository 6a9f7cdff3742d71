"""Ids of volumes and hosts. Both are added when a row refers to them first."""

import time
from collections.abc import Iterable

from sqlalchemy import Connection, select

from harvestd.catalogue import schema
from harvestd.catalogue.engine import insert
from harvestd.catalogue.entries import GONE

_VOLUME = "SELECT id FROM volumes WHERE storage = ?"
_ADD_VOLUME = "INSERT INTO volumes (storage) VALUES (?) ON CONFLICT DO NOTHING"


def volume_ids(connection: Connection, storages: Iterable[str]) -> dict[str, int]:
    """Return the ids of volumes by what is called their storage elsewhere; add those that are missing."""
    # Plain SQL: this is part of each change of a file.
    found: dict[str, int] = {}
    for storage in set(storages):
        known = connection.exec_driver_sql(_VOLUME, (storage,)).scalar()
        if known is None:
            connection.exec_driver_sql(_ADD_VOLUME, (storage,))
            known = connection.exec_driver_sql(_VOLUME, (storage,)).scalar_one()
        found[storage] = int(known)
    return found


def volume_id(connection: Connection, storage: str) -> int:
    """Return the id of one volume; add it if it is missing."""
    return volume_ids(connection, [storage])[storage]


def host_id(connection: Connection, identity: str, name: str) -> int:
    """Return the id of the host with this identity; add it, unlisted, if it was never connected to."""
    row = {
        "identity": identity,
        "name": name,
        "listed": False,
        "address": "",
        "state": GONE,
        "method": "",
        "first_seen": time.time(),
        "error": "",
        "pending_bytes": 0,
    }
    connection.execute(insert(schema.hosts).values(row).on_conflict_do_nothing(index_elements=["identity"]))
    found = connection.execute(select(schema.hosts.c.id).where(schema.hosts.c.identity == identity))
    return int(found.scalar_one())
