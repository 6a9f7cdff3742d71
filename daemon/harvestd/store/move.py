"""Moves published files and makes links, replacing nothing.

Moves published files: an experiment whose name is updated, or an eval whose run is known now. A move is one rename:
nothing is copied, nothing is replaced, and the kept versions are moved along. It must never be called for a directory
in which a file still grows; the store can't check that.

Makes the links of the convention (`step_latest -> step_final`) by name, without following any. A link is relative and
its target is a single name in the same directory, so it can't lead anywhere else, and it moves with its directory. A
link must never replace anything but a link.
"""

import os
import secrets
import stat

from harvestd import failpoints
from harvestd.convention.paths import LocalPath, decoded, encoded
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.publish import Result
from harvestd.store.root import DataRoot
from harvestd.store.walking import Touched, made, opened, rename_noreplace, status, sync_touched


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


def make_link(root: DataRoot, path: LocalPath, target: str) -> Result:
    """Make the link at `path` point to `target` in the same directory; it is synced when this returns.

    Return ADOPTED if it does already; PUBLISHED if it is new or had another target; CONFLICT if something other than a
    link is there; REFUSED if the file system has no links. Raise `RejectedPath` if `target` is not a single name,
    `DiskFull`, `HaltedForSafety`.
    """
    neighbour = encoded(LocalPath((target,)).name)
    touched: Touched = {path.parts[:-1]}
    try:
        with root.made_parent(path, touched) as parent, translating("can't make a link"):
            result = _place(root, path.name, neighbour, parent)
    except Conflict:
        return Result.CONFLICT
    except Refused:
        return Result.REFUSED
    root.sync(touched)
    return result


def pointed(root: DataRoot, path: LocalPath) -> str | None:
    """Return the target of the link at `path`; None if there is no link. Raise `Conflict`, `HaltedForSafety`."""
    try:
        with root.parent(path) as parent, translating("can't read a link"):
            standing = status(parent, path.name)
            if standing is None or not stat.S_ISLNK(standing.st_mode):
                return None
            return decoded(os.readlink(encoded(path.name), dir_fd=parent))
    except FileNotFoundError:
        return None


def _place(root: DataRoot, name: str, neighbour: bytes, parent: int) -> Result:
    staging = root.staging.directory
    standing = status(parent, name)
    if standing is not None:
        if not stat.S_ISLNK(standing.st_mode):
            raise Conflict("something that is no link stands there")
        if os.readlink(encoded(name), dir_fd=parent) == neighbour:
            return Result.ADOPTED
    temporary = "." + secrets.token_hex(16)
    os.symlink(neighbour, temporary, dir_fd=staging)
    try:
        if standing is None:
            rename_noreplace(staging, temporary, parent, name)
        else:
            # Remaining race: if a person replaces the link by something else after the check above, that is replaced.
            os.rename(temporary, encoded(name), src_dir_fd=staging, dst_dir_fd=parent)
    except OSError:
        os.unlink(temporary, dir_fd=staging)
        raise
    return Result.PUBLISHED
