"""Checks whether files are at their paths as expected, for recovery after a crash or a failure."""

import os
from collections.abc import Sequence

from harvestd.convention.paths import LocalPath
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.root import DataRoot
from harvestd.store.walking import Touched, sha256_of


def standing(root: DataRoot, expected: Sequence[tuple[LocalPath, str]]) -> list[bool]:
    """Return for each path whether it has a file with this SHA-256; such files and their directories are synced.

    They may not be synced yet if a process was killed after a rename. Raise `HaltedForSafety` if the disk fails.
    """
    touched: Touched = set()
    found = [_stands(root, path, sha256) for path, sha256 in expected]
    for (path, _), stands in zip(expected, found, strict=True):
        if stands:
            touched.update(path.parts[:depth] for depth in range(len(path.parts)))
    root.sync(touched)
    return found


def _stands(root: DataRoot, path: LocalPath, sha256: str) -> bool:
    try:
        with translating(path), root.reading(path) as file:
            if sha256_of(file) != sha256:
                return False
            os.fsync(file.fileno())
    except (FileNotFoundError, Conflict, Refused):
        return False
    return True
