"""A catalogue that can't be read: how that is found out, and how it is put out of the way without being lost."""

from itertools import count
from pathlib import Path

from harvestd.catalogue.engine import open_engine, revision, translated
from harvestd.catalogue.host_keys import FILE_NAME
from harvestd.errors import HaltedForSafety

_FINE = "ok"
_BESIDE = ("", "-wal", "-shm")
"""What belongs to one SQLite file; its log must never be taken for that of the next one."""


def damage_of(state_dir: Path) -> str | None:
    """Say what is wrong with the file below `state_dir`; None where it is whole, or not there. Blocks."""
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
    """Rename the catalogue below `state_dir`; gives where it is now. The caller holds the data root's lock."""
    places = (state_dir / f"{FILE_NAME}.damaged-{number}" for number in count(1))
    aside = next(place for place in places if not place.exists())
    for end in reversed(_BESIDE):
        part = state_dir / (FILE_NAME + end)
        if part.exists():
            part.rename(f"{aside}{end}")
    return aside
