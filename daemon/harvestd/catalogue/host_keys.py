"""Reads a pinned host key before the catalogue is open, since hosts are connected while it is being opened."""

import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from harvestd.catalogue.errors import unusable

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
