"""The links that the convention knows (`step_latest -> step_final`), made by name, never followed.

A link is relative and points at one name beside it, so it can't lead anywhere else, and it moves with its directory.
It must never replace anything but a link.
"""

import os
import secrets
import stat

from harvestd.convention.paths import LocalPath, decoded, encoded
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.ops.rename import rename_noreplace
from harvestd.store.publish import Result
from harvestd.store.root import DataRoot
from harvestd.store.walking import Touched, status


def make_link(root: DataRoot, path: LocalPath, target: str) -> Result:
    """Let the link at `path` point at its neighbour `target`; synced when this returns.

    ADOPTED where it does so already; PUBLISHED where it is new or pointed elsewhere; CONFLICT where something else
    than a link stands there; REFUSED where the file system has no links. Raises `RejectedPath` for a `target` that is
    no single name, `DiskFull`, `HaltedForSafety`.
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
    """Return where the link at `path` points; None where no link stands there. Raises `Conflict`, `HaltedForSafety`."""
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
            # A race stays: what a person puts here in place of the link since the look above is replaced.
            os.rename(temporary, encoded(name), src_dir_fd=staging, dst_dir_fd=parent)
    except OSError:
        os.unlink(temporary, dir_fd=staging)
        raise
    return Result.PUBLISHED
