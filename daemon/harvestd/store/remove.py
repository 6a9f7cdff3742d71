"""Removes results that are kept only until something newer is local: the only way in which results are deleted.

A file is removed only if it is byte for byte what was published; files that a person changed or added stay. The caller
must have removed the files' records first, so that a record always has its file.

Replaces harvestd's own files beside the results (manifest.json, README.md) in one atomic step. Only for names that
harvestd owns: existing content is replaced without a check. Files from a host always use `publish`.
"""

import os
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from harvestd import failpoints
from harvestd.convention.paths import LocalPath, encoded
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.root import DataRoot
from harvestd.store.walking import Touched, made, reading, sha256_of, sync_touched

_CHANGED: Final = "it was changed here"


def all_sizes_match(root: DataRoot, expected: Sequence[tuple[LocalPath, int]]) -> bool:
    """Return whether each path has a file of its size; raise `HaltedForSafety` if the disk fails."""
    try:
        found = [(root.stat(path), size) for path, size in expected]
    except (Conflict, Refused):
        return False
    return all(answer is not None and answer.st_size == size for answer, size in found)


def remove(root: DataRoot, directory: LocalPath, files: Sequence[tuple[LocalPath, str]]) -> dict[LocalPath, str]:
    """Remove these files below `directory`, each given with its SHA-256; the removal is synced on return.

    The removal of the first one is synced before any other is removed. Directories that are empty then are removed too.
    Return the files that were left, and why: a person changed them, or the file system refused. Raise
    `HaltedForSafety`.
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
    """Unlink one file; return whether it existed. Raise `Conflict`, `Refused`."""
    try:
        with root.parent(path) as parent, translating(f"can't remove {path}"):
            with reading(parent, path.name) as file:
                if sha256_of(file) != sha256:
                    raise Conflict(_CHANGED)
            # Remaining race: a file that a person saves under this name between the check and the unlink is lost.
            os.unlink(encoded(path.name), dir_fd=parent)
    except FileNotFoundError:
        return False
    return True


def remove_empty(root: DataRoot, directory: LocalPath, paths: Sequence[LocalPath]) -> None:
    """Remove `directory` and the directories of `paths` in it, as far as they are empty."""
    depth = len(directory.parts)
    inside = {path.parts[:length] for path in paths for length in range(depth, len(path.parts))}
    touched: Touched = set()
    for parts in sorted(inside, key=len, reverse=True):
        # A directory with other content stays.
        with suppress(Conflict, Refused, FileNotFoundError):
            empty = LocalPath(parts)
            with root.parent(empty) as parent, translating(f"can't remove {empty}"):
                os.rmdir(encoded(empty.name), dir_fd=parent)
            touched.add(parts[:-1])
    root.sync(touched)


def write_own(root: DataRoot, path: LocalPath, data: bytes) -> None:
    """Write `data` to `path`; it is synced when this returns, and a crash leaves the old or the new content.

    A link at `path` is replaced, not followed. Raise `Conflict` for a directory there, `Refused`, `DiskFull` and
    `HaltedForSafety`.
    """
    touched = {path.parts[:-1]}
    with root.stage() as staged:
        staged.write(data)
        staged.sync()
        failpoints.reach("own.staged")
        with root.made_parent(path, touched) as parent:
            os.rename(encoded(staged.name), encoded(path.name), src_dir_fd=root.staging.directory, dst_dir_fd=parent)
    failpoints.reach("own.renamed")
    root.sync(touched)


def write_inside(root: DataRoot, directory: LocalPath, rest: Sequence[str], data: bytes) -> None:
    """Write as `write_own` does, at `rest` inside an existing directory, which is not created if it is gone.

    If the directory is renamed meanwhile, the file is in the renamed one. Raise FileNotFoundError if there is none.
    """
    path = directory.child(*rest)
    parent = tuple(rest[:-1])
    touched: Touched = {parent}
    with root.directory(directory) as base, root.stage() as staged:
        staged.write(data)
        staged.sync()
        with translating(path):
            with made(base, parent, touched) as there:
                os.rename(encoded(staged.name), encoded(path.name), src_dir_fd=root.staging.directory, dst_dir_fd=there)
            sync_touched(base, touched)
