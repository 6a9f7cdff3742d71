"""The directory of the catalogue, and what is done with it before SQLAlchemy is imported.

Checks the directory, reads a pinned host key while the catalogue is being opened, and converts errors of SQLite.
"""

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from harvestd.errors import DiskFull, Fatal, HaltedForSafety, HarvestError

_KIND_OF_ERROR = 0xFF
"""Mask of SQLite's primary error code; the other bits are details."""
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
REPAIR = "`harvestd verify --repair` sets it aside and makes it anew from the data root"
_DISK = "check the disk below state_dir; nothing is published until the catalogue can be written"
_REFUSED_ROWS = frozenset(
    {sqlite3.SQLITE_CONSTRAINT, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_RANGE}
)
"""Errors about the values of one statement: the file and the rest of the transaction stay usable."""


class InconsistentRows(HarvestError):
    """One change contradicts recorded rows and was not made; the catalogue is intact and accepts other changes."""


def refuses_rows(error: BaseException | None) -> bool:
    """Return whether an error of SQLite concerns the values of one statement instead of the file."""
    return getattr(error, "sqlite_errorcode", 0) & _KIND_OF_ERROR in _REFUSED_ROWS


def unusable(error: BaseException | None) -> HaltedForSafety:
    """Return the exception to raise for an error of SQLite."""
    kind = getattr(error, "sqlite_errorcode", 0) & _KIND_OF_ERROR
    sentence = f"the catalogue can't be used: {error}"
    if kind == sqlite3.SQLITE_FULL:
        return DiskFull(sentence, hint="make room on the file system of state_dir; fetching goes on by itself")
    return HaltedForSafety(sentence, hint=REPAIR if kind in _DAMAGE else _DISK)


_HINT = "set state_dir to a directory on a local disk that the user who runs harvestd may write"


def make_state_dir(path: Path) -> None:
    """Create the directory at `path` if it is missing. Raise `Fatal` if it is unusable for the catalogue."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise Fatal(f"state_dir {path} can't be made: {error.strerror or error}", hint=_HINT) from error
    problem = problem_with(path)
    if problem is not None:
        raise problem


def problem_with(path: Path) -> Fatal | None:
    """Return why `path`, which may not exist yet, is unusable for the catalogue; None if it is usable.

    Nothing is created.
    """
    try:
        nearest = next(each for each in (path, *path.parents) if os.path.lexists(each))
        if not nearest.is_dir():
            return Fatal(f"state_dir {path} can't be used: {nearest} is no directory", hint=_HINT)
        if not os.access(nearest, os.R_OK | os.W_OK | os.X_OK):
            return Fatal(f"state_dir {path} can't be written: no permission for {nearest}", hint=_HINT)
    except OSError as error:
        return Fatal(f"state_dir {path} can't be used: {error.strerror or error}", hint=_HINT)
    return None


FILE_NAME = "catalogue.sqlite"
"""The name of the catalogue's file in its directory."""


def kept_pin(state_dir: Path, identity: str) -> str | None:
    """Return the host key pinned under `identity`; None if there is none. Blocks briefly; changes nothing.

    Raise `HaltedForSafety` if the catalogue exists and can't be read: then no key may be accepted as the first one.
    """
    path = state_dir / FILE_NAME
    if not path.exists():
        return None
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)) as connection:
            made = connection.execute("SELECT count(*) FROM sqlite_master WHERE name = 'pins'").fetchone()
            if not made[0]:
                return None
            found = connection.execute("SELECT key FROM pins WHERE identity = ?", (identity,)).fetchone()
    except sqlite3.Error as e:
        raise unusable(e) from e
    return None if found is None else str(found[0])
