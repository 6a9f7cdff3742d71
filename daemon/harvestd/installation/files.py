"""Files with a first line that identifies their writer and holds the hash of the rest.

So a file that a person edited, or wrote, is distinguished from harvestd's, whichever version wrote it.
"""

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Final

_MARK: Final = "# Written by `harvestd install`, which leaves it alone once it is edited: "
_DIGITS: Final = 16
_READABLE: Final = 0o644


class Standing(StrEnum):
    """The state of a path."""

    ABSENT = "absent"
    OURS = "ours"
    """Unchanged since harvestd wrote it."""
    EDITED = "edited"
    """Edited since, or never harvestd's."""


def stamped(text: str) -> str:
    """Return a file's text after the line that identifies it."""
    return f"{_MARK}{_hash_of(text)}\n{text}"


def standing(path: Path) -> Standing:
    """Return the state of `path`; raise OSError where it can't be read."""
    try:
        head, _, text = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    except FileNotFoundError:
        return Standing.ABSENT
    return Standing.OURS if head == _MARK + _hash_of(text) else Standing.EDITED


def holds(path: Path, text: str) -> bool:
    """Return whether the file `path` has exactly this content."""
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text


def put(path: Path, text: str) -> None:
    """Write a file that all may read, atomically; create missing directories."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.new")
    half.write_text(text, encoding="utf-8")
    half.chmod(_READABLE)
    half.replace(path)


def take_away(path: Path) -> None:
    """Remove a file, and its directory of drop-ins if that is empty then."""
    path.unlink()
    if path.parent.name.endswith(".d") and not any(path.parent.iterdir()):
        path.parent.rmdir()


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:_DIGITS]
