"""Errors of the catalogue: an unusable file, because of its disk or its content; and rejected rows."""

import sqlite3

from harvestd.errors import DiskFull, HaltedForSafety, HarvestError

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
