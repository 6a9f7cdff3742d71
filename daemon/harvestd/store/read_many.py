"""Reads many small files below the data root in sequence; each directory is opened once for all files in it.

For reading hundreds of evals. A directory that is renamed meanwhile is still read through its open descriptor, so
callers must prevent renames.
"""

import os
from typing import TYPE_CHECKING, Self

from harvestd.store.errors import Damaged, shown, translating
from harvestd.store.walking import Way, open_regular

if TYPE_CHECKING:
    from types import TracebackType

    from harvestd.convention.paths import LocalPath
    from harvestd.store.root import DataRoot

_PIECE = 64 * 1024


class Neighbours:
    """Reader for one thread; a context manager with one descriptor for each level of the last file's path."""

    def __init__(self, root: "DataRoot") -> None:
        self._way: Way = root.way()

    def read(self, path: "LocalPath", limit: int) -> bytes:
        """Return the file's content; raise errors as `DataRoot.read` does."""
        with translating(path):
            file = open_regular(self._way.opened(path.parts[:-1]), path.name)
            try:
                content = _up_to(file, limit + 1)
            finally:
                os.close(file)
        if len(content) > limit:
            raise Damaged(f"{shown(path)} has more than {limit} bytes")
        return content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        self._way.close()


def _up_to(file: int, count: int) -> bytes:
    """Return up to `count` bytes, unbuffered: nearly all of these files are read in one piece."""
    pieces = []
    while count and (piece := os.read(file, min(count, _PIECE))):
        pieces.append(piece)
        count -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
