"""The table of files: writes, and queries that return a bounded number of rows or touch few of them.

A path that is not UTF-8 is stored as a BLOB, which sorts after all text: a range of paths is read in both forms.
Plain SQL: there may be a million rows, and SQLAlchemy takes longer for each than SQLite does.
"""

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

from sqlalchemy import Connection

from harvestd.catalogue.rows import SOURCE_COLUMNS, file_of_values, local_text, path_text, relative_text, source_values
from harvestd.catalogue.schema import stored, stored_bytes
from harvestd.catalogue.state_dir import REPAIR, InconsistentRows
from harvestd.catalogue.stored_records import volume_ids
from harvestd.convention.kinds import GROWING, Kind
from harvestd.convention.paths import LocalPath
from harvestd.convention.structs import Immutable
from harvestd.errors import HaltedForSafety
from harvestd.planning.records import BASE_EVAL, UNFILED, FileRecord, Section, section_of, sections_in

Position = tuple[str | bytes, int]
"""A remote path as stored, and the id of a row."""
BEGINNING: Final[Position] = ("", -1)
Range = tuple[str | None, str | bytes, str | bytes]
"""An experiment (None: of no experiment), the first stored path of a range, and the first one after it."""

_AFTER_SLASH: Final = chr(ord("/") + 1)
_END: Final = "\0"
"""A path with this appended is the next one after it: no path contains it."""
_ALL: Final = ("", b"\xff" * 256)
"""The range of all paths: no component of one has 256 bytes."""

_DIRECTORY: Final = "(SELECT directory FROM experiments WHERE experiments.id = files.experiment_id)"
_STORAGE: Final = "(SELECT storage FROM volumes WHERE volumes.id = files.volume_id)"
_SELECT: Final = f"SELECT {_DIRECTORY}, path, experiment_id, {_STORAGE}, {', '.join(SOURCE_COLUMNS[1:])} FROM files"  # noqa: S608
IN_RANGE: Final = f"{_SELECT} WHERE experiment_id IS ? AND path >= ? AND path < ? ORDER BY path LIMIT ?"
AT: Final = f"{_SELECT} WHERE experiment_id IS ? AND path = ?"
_EXPERIMENTS_AT: Final = "SELECT id FROM experiments WHERE directory = ?"
FROM_STORAGE: Final = (
    f"SELECT place, id, {_DIRECTORY}, path FROM files"  # noqa: S608
    " WHERE volume_id = (SELECT id FROM volumes WHERE storage = ?) AND (place, id) > (?, ?) ORDER BY place, id LIMIT ?"
)
SIZES_FROM: Final = (
    f"SELECT {_DIRECTORY}, path, experiment_id, kind, size FROM files"  # noqa: S608
    " WHERE volume_id = (SELECT id FROM volumes WHERE storage = ?)"
)
BELOW_PLACE: Final = (
    "SELECT DISTINCT experiment_id FROM files"
    " WHERE volume_id = (SELECT id FROM volumes WHERE storage = ?) AND place >= ? AND place < ?"
)
_WITH_FILES: Final = "FROM experiments WHERE EXISTS (SELECT 1 FROM files WHERE experiment_id = experiments.id)"
_COLUMNS: Final = ("experiment_id", "path", *SOURCE_COLUMNS)
_REPLACED: Final = ", ".join(f"{name} = excluded.{name}" for name in SOURCE_COLUMNS)
_SAVE: Final = (
    f"INSERT INTO files ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608
    f" ON CONFLICT {{}} DO UPDATE SET {_REPLACED}"
)
_SAVE_FILED: Final = _SAVE.format("(experiment_id, path)")
_SAVE_UNFILED: Final = _SAVE.format("(path) WHERE experiment_id IS NULL")
FORGET: Final = "DELETE FROM files WHERE experiment_id IS ? AND path = ?"


def save(connection: Connection, files: Sequence[FileRecord]) -> None:
    """Insert or replace the rows of files."""
    volumes = volume_ids(connection, {file.storage for file in files})
    filed: list[tuple[object, ...]] = []
    unfiled: list[tuple[object, ...]] = []
    for file in files:
        row = (*_key(file), *source_values(file, volumes[file.storage]))
        (unfiled if file.experiment is None else filed).append(row)
    for statement, rows in ((_SAVE_FILED, filed), (_SAVE_UNFILED, unfiled)):
        if rows and connection.exec_driver_sql(statement, rows).rowcount != len(rows):
            raise InconsistentRows("not all of the files could be recorded")


def forget(connection: Connection, files: Iterable[FileRecord]) -> None:
    """Delete the rows of files, as far as there are any."""
    keys = [_key(file) for file in files]
    if keys:
        connection.exec_driver_sql(FORGET, keys)


def _key(file: FileRecord) -> tuple[str | None, str | bytes]:
    return file.experiment, relative_text(file.target, file.experiment)


@contextmanager
def own_rows() -> Iterator[None]:
    """Convert what a row raises that harvestd did not write to `HaltedForSafety`."""
    try:
        yield
    except (ValueError, KeyError, TypeError) as e:
        raise HaltedForSafety(f"the catalogue holds a row that harvestd did not write: {e}", hint=REPAIR) from e


def ranges(connection: Connection, section: Section) -> list[Range]:
    """Return the ranges that contain the files of a section, and no others."""
    found: list[Range] = [(None, *pair) for pair in _both_forms(_unfiled(section))]
    if section[0] != UNFILED:
        experiments = connection.exec_driver_sql(_EXPERIMENTS_AT, (stored(section[0]),)).scalars()
        found += [(each, *pair) for each in experiments for pair in _filed(section)]
    return found


def _filed(section: Section) -> list[tuple[str | bytes, str | bytes]]:
    """Return the ranges of a section in the paths below an experiment's directory."""
    below, after = f"{BASE_EVAL}/", BASE_EVAL + _AFTER_SLASH
    if len(section) > 1:
        return _both_forms([(below, after)])
    return [("", below), (after, below.encode()), (after.encode(), _ALL[1])]


def _unfiled(section: Section) -> list[tuple[str, str]]:
    """Return the ranges of a section in the paths below the data root."""
    name = "/".join(section)
    below, after = f"{name}/", name + _AFTER_SLASH
    if section[0] == UNFILED:
        return [(name, name + _END), *([(below, after)] if len(section) > 1 else [])]
    if len(section) > 1:
        return [(below, after)]
    base = below + BASE_EVAL
    return [(name, name + _END), (below, f"{base}/"), (base + _AFTER_SLASH, after)]


def _both_forms(pairs: Sequence[tuple[str, str]]) -> list[tuple[str | bytes, str | bytes]]:
    texts = [pair for pair in pairs if isinstance(stored(pair[0]), str)]
    return [*texts, *((stored_bytes(low), stored_bytes(high)) for low, high in pairs)]


def read(connection: Connection, ranges: Sequence[Range], most: int) -> tuple[list[FileRecord], Sequence[Range]]:
    """Return the first files of these ranges, at most `most`, and the ranges that are left."""
    found: list[FileRecord] = []
    left = list(reversed(ranges))
    with own_rows():
        while left and len(found) < most:
            experiment, low, high = left.pop()
            wanted = most - len(found)
            here = connection.exec_driver_sql(IN_RANGE, (experiment, low, high, wanted)).fetchall()
            found += [_file(row) for row in here]
            if len(here) == wanted:
                left.append((experiment, _next(here[-1][1]), high))
    return found, left[::-1]


def _next(path: str | bytes) -> str | bytes:
    return path + _END if isinstance(path, str) else path + _END.encode()


def _file(row: Sequence[Any]) -> FileRecord:
    directory, path, experiment, storage, *source = row
    return file_of_values(local_text(directory, path), experiment, storage, source)


def all_of(experiment: str | None) -> list[Range]:
    """Return the range of all files of an experiment; None: of those of no experiment."""
    return [(experiment, *_ALL)]


def files_of(connection: Connection, experiment: str | None) -> list[FileRecord]:
    """Return all files of an experiment, ordered by path; None: those of no experiment."""
    found, _ = read(connection, all_of(experiment), sys.maxsize)
    return found


def file_at(connection: Connection, target: LocalPath) -> FileRecord | None:
    """Return the file at a local path; None if there is none."""
    experiments = connection.exec_driver_sql(_EXPERIMENTS_AT, (stored(target[0]),)).scalars().all()
    with own_rows():
        keys = ((each, relative_text(target, each)) for each in (None, *experiments))
        rows = (connection.exec_driver_sql(AT, key).first() for key in keys)
        return next((_file(row) for row in rows if row is not None), None)


def sections_from(
    connection: Connection, storage: str, after: Position, most: int
) -> tuple[set[Section], Position | None]:
    """Return the sections of the files from a storage after a position, and the last one; None if these were all."""
    found = connection.exec_driver_sql(FROM_STORAGE, (storage, *after, most)).fetchall()
    sections = {section_of(tuple(local_text(directory, path).split("/", 3))) for _, _, directory, path in found}
    return sections, (found[-1][0], found[-1][1]) if len(found) == most else None


class StoredSize(Immutable, gc=False):
    """What a local file must have by its record."""

    target: LocalPath
    experiment: str | None
    size: int
    """Local bytes."""
    grows: bool
    """Whether the local file may be longer."""


def sizes_from(connection: Connection, storage: str) -> list[StoredSize]:
    """Return the sizes of all files from a storage, as of one moment."""
    with own_rows():
        return [
            StoredSize(LocalPath.parse(local_text(directory, path)), experiment, size, Kind(kind) in GROWING)
            for directory, path, experiment, kind, size in connection.exec_driver_sql(SIZES_FROM, (storage,))
        ]


def experiments_below(connection: Connection, storage: str, place: str) -> list[str]:
    """Return the experiments of the files from below an absolute path."""
    pairs = _both_forms([(f"{place}/", place + _AFTER_SLASH)])
    found = (connection.exec_driver_sql(BELOW_PLACE, (storage, *pair)).scalars() for pair in pairs)
    return [each for several in found for each in several if each is not None]


def experiments(connection: Connection) -> list[str]:
    """Return the experiments that have any file, by one search for each."""
    return list(connection.exec_driver_sql(f"SELECT id {_WITH_FILES}").scalars())


def storages(connection: Connection) -> list[str]:
    """Return the storages from which any file came, by one search for each."""
    statement = "SELECT storage FROM volumes WHERE EXISTS (SELECT 1 FROM files WHERE volume_id = volumes.id)"
    return list(connection.exec_driver_sql(statement).scalars())


def sections(connection: Connection) -> set[Section]:
    """Return the sections that have files, by one search for each directory."""
    filed = connection.exec_driver_sql(f"SELECT directory {_WITH_FILES}").scalars()
    found = {section for directory in filed for section in sections_in(path_text(directory))}
    first: Any
    for first in ("", b""):
        position = first
        while (row := _first_unfiled(connection, position)) is not None and isinstance(row, type(first)):
            parts = tuple(path_text(row).split("/"))
            section = section_of(parts)
            found.update([section] if section[0] == UNFILED else sections_in(section[0]))
            name = "/".join(section) if section[0] == UNFILED else section[0]
            end = name + (_END if len(parts) == len(name.split("/")) else _AFTER_SLASH)
            position = end if isinstance(row, str) else stored_bytes(end)
    return found


def _first_unfiled(connection: Connection, position: str | bytes) -> str | bytes | None:
    statement = "SELECT path FROM files WHERE experiment_id IS NULL AND path >= ? ORDER BY path LIMIT 1"
    found: str | bytes | None = connection.exec_driver_sql(statement, (position,)).scalar()
    return found
