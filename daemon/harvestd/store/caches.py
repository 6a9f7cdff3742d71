"""Small files in the state directory that can be made again: read whole, replaced whole, and never synced.

A file that can't be read or written is absent: its owner makes its content again, and checks what it reads.
"""

import os
from contextlib import suppress
from pathlib import Path
from typing import Final

from harvestd.store.walking import write_all

_PART: Final = ".part"
_OPEN: Final = os.O_NOFOLLOW | os.O_CLOEXEC


class CacheDirectory:
    """A directory of cached files, made when the first one is written. Its methods block briefly."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, name: str, limit: int) -> bytes | None:
        """Return the content of a file; None if there is none, or it has more than `limit` bytes."""
        try:
            file = os.open(self._path / name, os.O_RDONLY | _OPEN)
        except OSError:
            return None
        with suppress(OSError), os.fdopen(file, "rb") as reader:
            content = reader.read(limit + 1)
            return content if len(content) <= limit else None
        return None

    def write(self, name: str, content: bytes) -> bool:
        """Replace a file; return whether that succeeded. A process that dies leaves the earlier one."""
        part = self._path / (name + _PART)
        try:
            self._path.mkdir(parents=True, exist_ok=True)
            file = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _OPEN, 0o600)
            try:
                for _ in write_all(file, content, 0):
                    pass
            finally:
                os.close(file)
            part.replace(self._path / name)
        except OSError:
            with suppress(OSError):
                part.unlink(missing_ok=True)
            return False
        return True

    def keep(self, names: frozenset[str]) -> None:
        """Remove all files but these."""
        with suppress(OSError):
            for each in self._path.iterdir():
                if each.name not in names:
                    each.unlink()
