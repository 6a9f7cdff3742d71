"""Catalogues in the tables of earlier versions, with the records that are there now."""

import sqlite3
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from alembic import command
from alembic.config import Config

from harvestd.catalogue.engine import open_engine
from harvestd.catalogue.state_dir import FILE_NAME
from support.tables import joined

Columns = Mapping[str, Sequence[str]]
"""The names of columns by table."""


def make_empty(directory: Path, revision: str) -> None:
    """Make the tables of an earlier version, as its migrations do."""
    directory.mkdir(exist_ok=True)
    engine = open_engine(directory)
    config = Config()
    config.set_main_option("script_location", "harvestd.catalogue:migrations")
    with engine.begin() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, revision)
    engine.dispose()


def write_as(state: Path, revision: str) -> Columns:
    """Replace the catalogue below `state` by one of an earlier version, as far as that can hold its records.

    Return the columns that were written. There must be no intents.
    """
    older = state / "older"
    make_empty(older, revision)
    with closing(sqlite3.connect(older / FILE_NAME)) as database, database:
        columns = table_columns(database)
        for table, rows in content(state, columns).items():
            names, marks = ", ".join(columns[table]), ", ".join("?" * len(columns[table]))
            database.executemany(f"INSERT INTO {table} ({names}) VALUES ({marks})", rows)  # noqa: S608
    for part in state.glob(f"{FILE_NAME}*"):
        part.unlink()
    (older / FILE_NAME).rename(state / FILE_NAME)
    for part in older.iterdir():
        part.unlink()
    older.rmdir()
    return columns


def table_columns(database: sqlite3.Connection) -> Columns:
    """Return the columns of each table but that of intents."""
    found = database.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    return {
        table: [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
        for (table,) in found
        if table not in {"alembic_version", "intents"}
    }


def content(state: Path, columns: Columns) -> dict[str, list[tuple[object, ...]]]:
    """Return what these columns of the joined tables hold, in the order of the first column that is one of text."""
    with closing(sqlite3.connect(state / FILE_NAME)) as database:
        joined(database)
        return {
            table: sorted(database.execute(f"SELECT {', '.join(names)} FROM {table}"), key=repr)  # noqa: S608
            for table, names in columns.items()
        }
