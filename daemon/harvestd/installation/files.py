"""Files that we write once and know again: the first line of each says who wrote it, and the hash of what follows.

So a file that a person edited, or wrote, is told from ours, whichever version of harvestd it is from.
"""

import hashlib
from enum import StrEnum
from pathlib import Path
from typing import Final

_MARK: Final = "# Written by `harvestd install`, which leaves it alone once it is edited: "
_DIGITS: Final = 16
_READABLE: Final = 0o644


class Standing(StrEnum):
    """What stands at a place."""

    ABSENT = "absent"
    OURS = "ours"
    """As we wrote it."""
    EDITED = "edited"
    """A person's: edited since, or never ours."""


def stamped(text: str) -> str:
    """Return a file's text with the line before it by which it is known."""
    return f"{_MARK}{_hash_of(text)}\n{text}"


def standing(path: Path) -> Standing:
    """Return what stands at `path`; raises OSError where that can't be read."""
    try:
        head, _, text = path.read_text(encoding="utf-8", errors="replace").partition("\n")
    except FileNotFoundError:
        return Standing.ABSENT
    return Standing.OURS if head == _MARK + _hash_of(text) else Standing.EDITED


def holds(path: Path, text: str) -> bool:
    """Return whether exactly this stands at `path`."""
    return path.is_file() and path.read_text(encoding="utf-8", errors="replace") == text


def put(path: Path, text: str) -> None:
    """Write a file that all may read, whole or not at all, in directories that are made where they are missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    half = path.with_name(f".{path.name}.new")
    half.write_text(text, encoding="utf-8")
    half.chmod(_READABLE)
    half.replace(path)


def take_away(path: Path) -> None:
    """Remove a file, and a directory of drop-ins that is empty then."""
    path.unlink()
    if path.parent.name.endswith(".d") and not any(path.parent.iterdir()):
        path.parent.rmdir()


def _hash_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()[:_DIGITS]
