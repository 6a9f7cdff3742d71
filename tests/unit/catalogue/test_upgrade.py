"""A catalogue that 550975c wrote, and its records in the tables of every other earlier version: nothing is lost."""

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.state_dir import FILE_NAME
from support.older import content, table_columns, write_as
from support.upgrade import write_catalogue

REVISIONS = [f"{number:04}" for number in range(1, 9)]
Rows = dict[str, list[tuple[object, ...]]]


def migrate(state: Path) -> None:
    """Open a catalogue once."""
    with closing(sqlite3.connect(state / FILE_NAME)) as database:
        ((root,),) = database.execute("SELECT value FROM meta WHERE key = 'data_root'")
    open_catalogue(state, str(root)).close()


def normal(rows: Rows) -> Rows:
    """Return rows with the same spaces in every JSON text."""
    return {
        table: sorted(
            (
                tuple(
                    json.dumps(json.loads(value)) if isinstance(value, str) and value[:1] in {"{", "["} else value
                    for value in row
                )
                for row in found
            ),
            key=repr,
        )
        for table, found in rows.items()
    }


def test_every_row_of_550975c_is_there(tmp_path: Path) -> None:
    """With every value that it had."""
    write_catalogue(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as database:
        columns = table_columns(database)
        before: Rows = {
            table: database.execute(f"SELECT {', '.join(names)} FROM {table}").fetchall()  # noqa: S608
            for table, names in columns.items()
        }
    assert all(before[table] for table in ("experiments", "runs", "files", "links", "requests", "verdicts", "left_out"))
    migrate(tmp_path)
    assert normal(content(tmp_path, columns)) == normal(before)


@pytest.mark.parametrize("revision", REVISIONS)
def test_every_earlier_version_leads_to_the_same_records(tmp_path: Path, revision: str) -> None:
    """As far as its tables could hold them."""
    first, second = tmp_path / "first", tmp_path / "second"
    write_catalogue(first)
    migrate(first)
    shutil.copytree(first, second)
    columns = write_as(second, revision)
    migrate(second)
    found = content(second, columns)
    assert found == content(first, columns)
    assert found["files"]
