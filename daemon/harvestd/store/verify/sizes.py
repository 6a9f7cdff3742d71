"""Checks the sizes of local files against their records: cheap enough for thousands."""

import stat
from collections.abc import Sequence

from harvestd.convention.paths import LocalPath
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.root import DataRoot
from harvestd.store.walking import Way, status


def not_intact(root: DataRoot, expected: Sequence[tuple[LocalPath, int, bool]]) -> list[LocalPath]:
    """Return the paths that are not regular files of the expected size. Blocks.

    Each entry has the path, the size, and whether the file grows and may be longer. Raise `HaltedForSafety` if the disk
    fails.
    """
    with root.way() as way:
        return [path for path, size, grows in sorted(expected) if not _stands(way, path, size, grows=grows)]


def _stands(way: Way, path: LocalPath, size: int, *, grows: bool) -> bool:
    try:
        with translating(path):
            found = status(way.opened(path.parts[:-1]), path.name)
    except (FileNotFoundError, Conflict, Refused):
        return False
    if found is None or not stat.S_ISREG(found.st_mode):
        return False
    return found.st_size >= size if grows else found.st_size == size
