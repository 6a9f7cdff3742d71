"""Reading many small files below the data root, one after the other: a directory is walked to once for all in it.

For those who read hundreds of evals. What a person moves meanwhile is read where it was: hold directories still.
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
    """Reads for one thread; a context manager that holds as many descriptors as the last file lies deep."""

    def __init__(self, root: "DataRoot") -> None:
        self._way: Way = root.way()

    def read(self, path: "LocalPath", limit: int) -> bytes:
        """Return the file's content; raises as `DataRoot.read` does."""
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
    """Read without a buffer: nearly all of these files come in one piece."""
    pieces = []
    while count and (piece := os.read(file, min(count, _PIECE))):
        pieces.append(piece)
        count -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)
