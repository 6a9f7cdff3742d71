"""Moves published files: an experiment whose name is updated, or an eval whose run is known now.

A move is one rename: nothing is copied, nothing is replaced, and the kept versions are moved along. It must never be
called for a directory in which a file still grows; the store can't check that.
"""

import os

from harvestd import failpoints
from harvestd.convention.paths import LocalPath, encoded
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.ops.rename import rename_noreplace
from harvestd.store.publish import Result
from harvestd.store.root import DataRoot
from harvestd.store.walking import Touched, made, opened, status, sync_touched


def move(root: DataRoot, source: LocalPath, target: LocalPath) -> Result:
    """Move the file or directory at `source` to `target`; it is synced when this returns.

    Return PUBLISHED if it was moved; ADOPTED if `source` is gone and `target` exists, as after a crash; CONFLICT if
    anything is at `target` while `source` exists, or if neither exists; REFUSED if the file system rejects it. Raise
    `HaltedForSafety`.
    """
    touched: Touched = {source.parts[:-1], target.parts[:-1]}
    result = Result.PUBLISHED
    try:
        with (
            root.parent(source) as old,
            root.made_parent(target, touched) as new,
            translating("can't move"),
        ):
            _rename(old, source.name, new, target.name)
        failpoints.reach("move.renamed")
    except FileNotFoundError:
        result = Result.CONFLICT if root.stat(target) is None else Result.ADOPTED
    except Conflict:
        result = Result.CONFLICT
    except Refused:
        result = Result.REFUSED
    if result in {Result.PUBLISHED, Result.ADOPTED}:
        root.sync(touched)
        failpoints.reach("move.synced")
        _move_versions(root, source, target)
    return result


def _rename(old: int, name: str, new: int, new_name: str) -> None:
    try:
        rename_noreplace(old, name, new, new_name)
    except FileExistsError:
        source, target = status(old, name), status(new, new_name)
        if source is None or target is None or not os.path.samestat(source, target):
            raise
        # If a rename is a link and an unlink, a crash happened between the two.
        os.unlink(encoded(name), dir_fd=old)


def _move_versions(root: DataRoot, source: LocalPath, target: LocalPath) -> None:
    """Move the kept versions too; if the new path already has versions, the old ones stay in place."""
    touched: Touched = {source.parts[:-1], target.parts[:-1]}
    with translating("can't move kept versions"):
        try:
            with (
                opened(root.versions, source.parts[:-1]) as old,
                made(root.versions, target.parts[:-1], touched) as new,
            ):
                rename_noreplace(old, source.name, new, target.name)
        except (FileNotFoundError, FileExistsError):
            return
        sync_touched(root.versions, touched)
