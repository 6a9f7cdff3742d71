"""Requests by hand: the only row that a command writes beside a running daemon.

It is a separate transaction that takes the write lock at its beginning, and waits for it as long as a person would: the
daemon commits often and briefly. Nothing else is written by two processes.

A daemon detects requests by querying SQLite instead of watching a file: `PRAGMA data_version` reads memory that is
mapped anyway, takes some microseconds, and can't be missed or limited by a quota, unlike notifications of the kernel.
"""

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from sqlalchemy import Connection

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import insert, open_engine, translated, writing
from harvestd.catalogue.errors import unusable
from harvestd.catalogue.references import host_id, volume_id
from harvestd.planning.requests import Request, RequestKind

_PATIENCE = 60.0
"""Seconds to wait for the write lock."""


def ask(state_dir: Path, kind: RequestKind, run: tuple[str, str], detail: Mapping[str, object]) -> int:
    """Record a request for a run, given by its key, in an existing catalogue; return the request's id.

    Blocks until it is on disk. Raise `HaltedForSafety` if it can't be written.
    """
    request = Request(0, kind, *run, asked_at=time.time(), detail=detail)
    engine = open_engine(state_dir, patience=_PATIENCE)
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
