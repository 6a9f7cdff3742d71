"""Queries of the table of files that return a bounded number of rows, or touch few of them.

A path that is not UTF-8 is stored as a BLOB, which is in no range of text: each range of paths is read in both forms.
Plain SQL: there may be a million rows, and SQLAlchemy takes longer for each than SQLite does.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection

from harvestd.catalogue import rows
from harvestd.catalogue.errors import REPAIR
from harvestd.catalogue.schema import stored, stored_bytes
from harvestd.convention.paths import LocalPath, decoded
from harvestd.errors import HaltedForSafety
from harvestd.planning.records import BASE_EVAL, UNFILED, FileRecord, Section, section_of, sections_in

Position = tuple[str | bytes, int]
"""A remote path as stored, and a row number."""
BEGINNING: Final[Position] = ("", -1)
Range = tuple[str | bytes, str | bytes]
"""The first stored path of a range, and the first one after it."""

_AFTER_SLASH: Final = chr(ord("/") + 1)
_END: Final = "\0"
"""A path with this appended is the next one after it: no path contains it."""
_COLUMNS: Final = ", ".join(rows.FILE_COLUMNS)
_IN_RANGE: Final = f"SELECT {_COLUMNS} FROM files WHERE target >= ? AND target < ? ORDER BY target LIMIT ?"  # noqa: S608
_AT: Final = f"SELECT {_COLUMNS} FROM files WHERE target = ?"  # noqa: S608
_OF_EXPERIMENT: Final = (
    f"SELECT rowid, {_COLUMNS} FROM files WHERE experiment IS ? AND rowid > ? ORDER BY rowid LIMIT ?"  # noqa: S608
)
_FROM_STORAGE: Final = (
    "SELECT place, rowid, target FROM files WHERE storage = ? AND (place, rowid) > (?, ?) ORDER BY place, rowid LIMIT ?"
)
_BELOW_PLACE: Final = "SELECT DISTINCT experiment FROM files WHERE storage = ? AND place >= ? AND place < ?"


@contextmanager
def own_rows() -> Iterator[None]:
    """Convert what a row raises that harvestd did not write to `HaltedForSafety`."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as e:
        raise HaltedForSafety(f"the catalogue holds a row that harvestd did not write: {e}", hint=REPAIR) from e


def ranges(section: Section) -> list[Range]:
    """Return the ranges of local paths that contain the files of a section, and no others."""
    name = "/".join(section)
    below, after = f"{name}/", name + _AFTER_SLASH
    if section[0] == UNFILED:
        found = [(name, name + _END), *([(below, after)] if len(section) > 1 else [])]
    elif len(section) > 1:
        found = [(below, after)]
    else:
        base = below + BASE_EVAL
        found = [(name, name + _END), (below, f"{base}/"), (base + _AFTER_SLASH, after)]
    texts = [pair for pair in found if isinstance(stored(pair[0]), str)]
    return [*texts, *((stored_bytes(low), stored_bytes(high)) for low, high in found)]


def read(connection: Connection, ranges: Sequence[Range], most: int) -> tuple[list[FileRecord], Sequence[Range]]:
    """Return the first files of these ranges, at most `most`, and the ranges that are left."""
    found: list[FileRecord] = []
    left = list(reversed(ranges))
    with own_rows():
        while left and len(found) < most:
            low, high = left.pop()
            wanted = most - len(found)
            here = connection.exec_driver_sql(_IN_RANGE, (low, high, wanted)).fetchall()
            found += [rows.file_of_values(row) for row in here]
            if len(here) == wanted:
                left.append((_next(here[-1][0]), high))
    return found, left[::-1]


def _next(path: str | bytes) -> str | bytes:
    return path + _END if isinstance(path, str) else path + _END.encode()


def files_of(
    connection: Connection, experiment: str | None, after: int, most: int
) -> tuple[list[FileRecord], int | None]:
    """Return the files of an experiment after a row, and the last row; None if these were all."""
    found = connection.exec_driver_sql(_OF_EXPERIMENT, (experiment, after, most)).fetchall()
    with own_rows():
        return [rows.file_of_values(row[1:]) for row in found], found[-1][0] if len(found) == most else None


def file_at(connection: Connection, target: LocalPath) -> list[FileRecord]:
    """Return the file at a local path, if there is one."""
    with own_rows():
        found = connection.exec_driver_sql(_AT, (stored(str(target)),)).fetchall()
        return [rows.file_of_values(row) for row in found]


def sections_from(
    connection: Connection, storage: str, after: Position, most: int
) -> tuple[set[Section], Position | None]:
    """Return the sections of the files from a storage after a position, and the last one; None if these were all."""
    found = connection.exec_driver_sql(_FROM_STORAGE, (storage, *after, most)).fetchall()
    sections = {section_of(tuple(_text(target).split("/", 3))) for _, _, target in found}
    return sections, (found[-1][0], found[-1][1]) if len(found) == most else None


def experiments_below(connection: Connection, storage: str, place: str) -> list[str]:
    """Return the experiments of the files from below an absolute path."""
    bounds = f"{place}/", place + _AFTER_SLASH
    pairs = [*([bounds] if isinstance(stored(place), str) else []), tuple(map(stored_bytes, bounds))]
    found = (connection.exec_driver_sql(_BELOW_PLACE, (storage, *pair)).scalars() for pair in pairs)
    return [each for several in found for each in several if each is not None]


def experiments(connection: Connection) -> list[str]:
    """Return the ids in the column of experiments."""
    return _distinct(connection, "experiment")


def storages(connection: Connection) -> list[str]:
    """Return the storages from which files came."""
    return _distinct(connection, "storage")


def _distinct(connection: Connection, column: str) -> list[str]:
    """Return the values of an indexed column by one search for each, instead of reading a million entries."""
    statement = f"""
        WITH RECURSIVE found(value) AS (
            SELECT min({column}) FROM files
            UNION ALL
            SELECT (SELECT min({column}) FROM files WHERE {column} > value) FROM found WHERE value IS NOT NULL
        )
        SELECT value FROM found WHERE value IS NOT NULL
    """  # noqa: S608
    return list(connection.exec_driver_sql(statement).scalars())


def sections(connection: Connection) -> set[Section]:
    """Return the sections that have files, by one search for each directory."""
    first: Any
    found: set[Section] = set()
    for first in ("", b""):
        position = first
        while (row := _first_from(connection, position)) is not None and isinstance(row, type(first)):
            parts = tuple(_text(row).split("/"))
            section = section_of(parts)
            found.update([section] if section[0] == UNFILED else sections_in(section[0]))
            name = "/".join(section) if section[0] == UNFILED else section[0]
            end = name + (_END if len(parts) == len(name.split("/")) else _AFTER_SLASH)
            position = end if isinstance(row, str) else stored_bytes(end)
    return found


def _first_from(connection: Connection, position: str | bytes) -> str | bytes | None:
    statement = "SELECT target FROM files WHERE target >= ? ORDER BY target LIMIT 1"
    found: str | bytes | None = connection.exec_driver_sql(statement, (position,)).scalar()
    return found


def of_experiment(connection: Connection, experiment: str) -> list[FileRecord]:
    """Return all files of an experiment."""
    found, _ = files_of(connection, experiment, -1, -1)
    return found


def _text(path: str | bytes) -> str:
    return path if isinstance(path, str) else decoded(path)
