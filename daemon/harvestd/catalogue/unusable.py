"""What is said when the catalogue's file can't be used: whether the disk is to be looked at, or the file is damaged."""

import sqlite3

from harvestd.errors import DiskFull, HaltedForSafety

_KIND_OF_ERROR = 0xFF
"""Of SQLite's error codes: the rest of the bits say more of the same kind."""
_DAMAGE = frozenset({sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
REPAIR = "`harvestd verify --repair` sets it aside and makes it anew from the data root"
_DISK = "check the disk below state_dir; nothing is published until the catalogue can be written"


def unusable(error: BaseException | None) -> HaltedForSafety:
    """Give what to raise for an error of SQLite's."""
    kind = getattr(error, "sqlite_errorcode", 0) & _KIND_OF_ERROR
    sentence = f"the catalogue can't be used: {error}"
    if kind == sqlite3.SQLITE_FULL:
        return DiskFull(sentence, hint="make room on the file system of state_dir; fetching goes on by itself")
    return HaltedForSafety(sentence, hint=REPAIR if kind in _DAMAGE else _DISK)
