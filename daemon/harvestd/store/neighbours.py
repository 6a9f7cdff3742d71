"""Reading many small files below the data root, one after the other: a directory is walked to once for all in it.

For those who read hundreds of evals. What a person moves meanwhile is read where it was: hold directories still.
"""

from typing import TYPE_CHECKING, Self

from harvestd.store.failures import Damaged, shown, translating
from harvestd.store.walking import Way, reading

if TYPE_CHECKING:
    from types import TracebackType

    from harvestd.convention.paths import LocalPath
    from harvestd.store.root import DataRoot


class Neighbours:
    """Reads for one thread; a context manager that holds as many descriptors as the last file lies deep."""

    def __init__(self, root: "DataRoot") -> None:
        self._way: Way = root.way()

    def read(self, path: "LocalPath", limit: int) -> bytes:
        """Give the file's content; raises as `DataRoot.read` does."""
        with translating(path):
            directory = self._way.opened(path.parts[:-1])
            with reading(directory, path.name) as file:
                content = file.read(limit + 1)
        if len(content) > limit:
            raise Damaged(f"{shown(path)} has more than {limit} bytes")
        return content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        self._way.close()
