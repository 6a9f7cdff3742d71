"""Whether files stand at their places as expected: for whoever finds a root after a crash, or after a failure."""

import os
from collections.abc import Sequence

from harvestd.convention.paths import LocalPath
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.root import DataRoot
from harvestd.store.walking import Touched, sha256_of


def standing(root: DataRoot, expected: Sequence[tuple[LocalPath, str]]) -> list[bool]:
    """Tell of each path whether a file with this SHA-256 stands there; what does is synced, its directories too.

    Nobody else may have synced it: a process that was killed after a rename has not. Raises `HaltedForSafety`.
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
