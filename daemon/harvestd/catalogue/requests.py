"""Requests by hand, which a command records beside a running daemon, and the detection of them.

The command's transaction takes the write lock at its beginning, and waits for it as long as a person would: the daemon
commits often and briefly.

A daemon detects requests by querying SQLite instead of watching a file: `PRAGMA data_version` reads memory that is
mapped anyway, takes some microseconds, and can't be missed or limited by a quota, unlike notifications of the kernel.
"""

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from msgspec.structs import replace
from sqlalchemy import Connection, update

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import Database, insert, open_engine, sliced, translated, writing
from harvestd.catalogue.state_dir import unusable
from harvestd.catalogue.stored_records import host_id, volume_id
from harvestd.planning.index import PlanningIndex
from harvestd.planning.requests import Request, RequestKind

_TIMEOUT = 60.0
"""Seconds to wait for the write lock."""


def record_request(state_dir: Path, kind: RequestKind, run: tuple[str, str], detail: Mapping[str, object]) -> int:
    """Record a request for a run, given by its key, in an existing catalogue; return the request's id.

    Blocks until it is on disk. Raise `HaltedForSafety` if it can't be written.
    """
    request = Request(0, kind, *run, asked_at=time.time(), detail=detail)
    engine = open_engine(state_dir, timeout=_TIMEOUT)
    try:
        with translated(), writing(engine) as connection:
            return add_request(connection, request)
    finally:
        engine.dispose()


def add_request(connection: Connection, request: Request) -> int:
    """Insert a request; return its id, which the database assigns."""
    if request.kind is RequestKind.JUDGE:
        subject = {"host_id": host_id(connection, request.storage, request.place)}
    else:
        subject = {"volume_id": volume_id(connection, request.storage)}
    row = rows.request_row(request, subject)
    made = connection.execute(insert(schema.requests).values(row).returning(schema.requests.c.id))
    return int(made.scalar_one())


class Changes:
    """Detects writes to the catalogue by other connections. Not for two threads at once."""

    def __init__(self, path: Path) -> None:
        """Make a detector for the catalogue in the file at `path`."""
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._version: object = None

    def seen(self) -> bool:
        """Return whether there were writes since the last call, True at first. Blocks briefly.

        Raise `HaltedForSafety` if the file can't be read.
        """
        try:
            if self._connection is None:
                self._connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False)
            with closing(self._connection.execute("PRAGMA data_version")) as found:
                version = found.fetchone()
        except sqlite3.Error as e:
            raise unusable(e) from e
        changed = bool(version != self._version)
        self._version = version
        return changed

    def close(self) -> None:
        """Close the file."""
        if self._connection is not None:
            self._connection.close()


class Requests:
    """Requests as a fetching process handles them."""

    def __init__(self, database: Database, knowledge: PlanningIndex) -> None:
        self._database = database
        self._knowledge = knowledge

    def changes(self) -> Changes:
        """Return a detector of writes to the database by any process."""
        return Changes(Path(self._database.engine.url.database or ""))

    async def take(self) -> list[Request]:
        """Return the new requests by hand, and record that they were taken."""
        table = schema.requests.c

        def query(connection: Connection) -> list[Request]:
            found = connection.execute(rows.requests().where(table.taken_at.is_(None)).order_by(table.id))
            return [rows.request_of(row) for row in found]

        now = time.time()
        taken = [replace(request, taken_at=now) for request in await self._database.read(query)]
        if taken:
            identifiers = [request.id for request in taken]

            def change(connection: Connection) -> None:
                for some in sliced(identifiers):
                    noticed = update(schema.requests).where(table.taken_at.is_(None), table.id.in_(some))
                    connection.execute(noticed.values(taken_at=now))

            await self._database.write(change)
        for request in taken:
            self._knowledge.add_request(request)
        return taken

    async def settle(self, request: Request, outcome: str) -> bool:
        """Record the outcome of a request, which settles it. Return whether it was open until now."""
        settled = replace(request, settled_at=time.time(), outcome=outcome)
        table = schema.requests.c
        statement = update(schema.requests).where(table.id == request.id, table.settled_at.is_(None))
        statement = statement.values(settled_at=settled.settled_at, outcome=outcome)
        changed: list[int] = []
        await self._database.write(lambda connection: changed.append(connection.execute(statement).rowcount))
        if changed != [1]:
            return False
        self._knowledge.add_request(settled)
        return True
