"""Makes the links of the convention (`step_latest -> step_final`) by name, without following any.

A link is relative and its target is a single name in the same directory, so it can't lead anywhere else, and it moves
with its directory. A link must never replace anything but a link.
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
