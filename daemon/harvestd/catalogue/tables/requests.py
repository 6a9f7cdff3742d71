"""Asking for something by hand: the one row that a command writes beside a running daemon.

It is a transaction of its own that takes the writer's turn at its begin, and waits for that as long as a person would:
the daemon commits often and shortly. Nothing else is written by two processes.

A daemon hears of it by asking SQLite, not by a watched file: `PRAGMA data_version` looks into memory that is mapped
anyway, costs some microseconds, and can't be missed or run out of a quota, as notices of the kernel can.
"""

import sqlite3
import time
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from sqlalchemy import insert

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import open_engine, translated, writing
from harvestd.catalogue.errors import unusable
from harvestd.planning.requests import Request, RequestKind

_PATIENCE = 60.0
"""Seconds to wait for our turn to write."""


def ask(state_dir: Path, kind: RequestKind, run: tuple[str, str], detail: Mapping[str, object]) -> int:
    """Record what a person asks for a run, given by its key, in a catalogue that is there; gives the request's id.

    Blocks until it is on disk. Raises `HaltedForSafety` where it can't be written.
    """
    row = rows.request_row(Request(0, kind, *run, asked_at=time.time(), detail=detail))
    engine = open_engine(state_dir, patience=_PATIENCE)
    try:
        with translated(), writing(engine) as connection:
            made = connection.execute(insert(schema.requests).values(row).returning(schema.requests.c.id))
            return int(made.scalar_one())
    finally:
        engine.dispose()


class Changes:
    """Tells whether anybody else wrote into the catalogue since it was asked last. Not for two threads at once."""

    def __init__(self, path: Path) -> None:
        """Listen to the catalogue in the file at `path`."""
        self._path = path
        self._connection: sqlite3.Connection | None = None
        self._version: object = None

    def seen(self) -> bool:
        """Tell it; true the first time. Blocks, shortly; raises `HaltedForSafety` where the file can't be read."""
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
