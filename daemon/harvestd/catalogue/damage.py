"""Detects an unreadable catalogue, and sets it aside without losing it."""

from itertools import count
from pathlib import Path

from harvestd.catalogue.engine import open_engine, revision, translated
from harvestd.catalogue.host_keys import FILE_NAME
from harvestd.errors import HaltedForSafety

_FINE = "ok"
_BESIDE = ("", "-wal", "-shm")
"""Suffixes of the files of one SQLite database; its log must never be used with another database."""


def damage_of(state_dir: Path) -> str | None:
    """Return a description of the damage to the file below `state_dir`; None if it is intact or absent. Blocks."""
    if not (state_dir / FILE_NAME).exists():
        return None
    engine = open_engine(state_dir)
    try:
        with translated(), engine.connect() as connection:
            found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
            if revision(engine) is None:
                return "it holds no tables"
    except HaltedForSafety as error:
        return str(error)
    finally:
        engine.dispose()
    return None if found == _FINE else f"its file is damaged: {found}"


def set_aside(state_dir: Path) -> Path:
    """Rename the catalogue below `state_dir`; return its new path. The caller holds the data root's lock."""
    places = (state_dir / f"{FILE_NAME}.damaged-{number}" for number in count(1))
    aside = next(place for place in places if not place.exists())
    for end in reversed(_BESIDE):
        part = state_dir / (FILE_NAME + end)
        if part.exists():
            part.rename(f"{aside}{end}")
    return aside
