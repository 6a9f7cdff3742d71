"""Removing results that are here only until something newer is: the one way in which a result is ever deleted.

A file is removed only while it is, byte for byte, what was filed; what a person changed stays, and so does whatever
they put beside it. The caller must have given up the files' records first: a record always has its file.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from harvestd import failpoints
from harvestd.convention.paths import LocalPath, encoded
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.root import DataRoot
from harvestd.store.walking import Touched, reading, sha256_of

_CHANGED: Final = "it was changed here"


def all_stand(root: DataRoot, expected: Sequence[tuple[LocalPath, int]]) -> bool:
    """Return whether a file of this size stands at each path; raises `HaltedForSafety`."""
    try:
        found = [(root.stat(path), size) for path, size in expected]
    except (Conflict, Refused):
        return False
    return all(answer is not None and answer.st_size == size for answer, size in found)


def remove(root: DataRoot, directory: LocalPath, files: Sequence[tuple[LocalPath, str]]) -> dict[LocalPath, str]:
    """Remove these files below `directory`, each with its SHA-256; synced when this returns.

    The first one is gone for good before any other goes. Directories that are empty then go as well. Gives what was
    left, and why: a person changed it, or the file system says no. Raises `HaltedForSafety`.
    """
    left: dict[LocalPath, str] = {}
    for some in (files[:1], files[1:]):
        touched: Touched = set()
        for path, sha256 in some:
            try:
                if _unlinked(root, path, sha256):
                    touched.add(path.parts[:-1])
                    failpoints.reach("remove.unlinked")
            except (Conflict, Refused) as e:
                left[path] = str(e)
        root.sync(touched)
    remove_empty(root, directory, [path for path, _ in files])
    failpoints.reach("remove.emptied")
    return left


def _unlinked(root: DataRoot, path: LocalPath, sha256: str) -> bool:
    """Unlink one file; tells whether there was one. Raises `Conflict`, `Refused`."""
    try:
        with root.parent(path) as parent, translating(f"can't remove {path}"):
            with reading(parent, path.name) as file:
                if sha256_of(file) != sha256:
                    raise Conflict(_CHANGED)
            # A race stays: what a person saves under this name between the line above and the one below is lost.
            os.unlink(encoded(path.name), dir_fd=parent)
    except FileNotFoundError:
        return False
    return True


def remove_empty(root: DataRoot, directory: LocalPath, paths: Sequence[LocalPath]) -> None:
    """Remove `directory` and those in it that `paths` were in, as far as they are empty."""
    depth = len(directory.parts)
    inside = {path.parts[:length] for path in paths for length in range(depth, len(path.parts))}
    touched: Touched = set()
    for parts in sorted(inside, key=len, reverse=True):
        # One that holds anything else is not ours to remove.
        with suppress(Conflict, Refused, FileNotFoundError):
            empty = LocalPath(parts)
            with root.parent(empty) as parent, translating(f"can't remove {empty}"):
                os.rmdir(encoded(empty.name), dir_fd=parent)
            touched.add(parts[:-1])
    root.sync(touched)
