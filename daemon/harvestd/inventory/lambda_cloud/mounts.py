"""What a box's trees lie on: the cloud's file systems, which outlive the box and may be mounted on several at once."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from harvestd.convention.structs import Immutable


class Mount(Immutable, order=True):
    """One of the cloud's file systems on a box."""

    point: str
    """Where it is mounted: an absolute path."""
    storage: str
    """The cloud's id of the file system."""


def storage_of(mounts: Iterable[Mount], roots: Iterable[str], user: str) -> str | None:
    """Return the one file system that all `roots` lie on; None where they don't, or where nobody can say.

    Taking two disks for one would mix their runs, while taking one for two costs a second copy: in doubt it is None.
    """
    at = {PurePosixPath(mount.point): mount.storage for mount in mounts}
    # The cloud's images show each file system by a link in the user's home, too; the operator's roots name either.
    at |= {PurePosixPath("/home", user, point.name): storage for point, storage in at.items()}
    found = {_below(PurePosixPath(root), at) for root in roots}
    return found.pop() if len(found) == 1 else None


def _below(root: PurePosixPath, at: dict[PurePosixPath, str]) -> str | None:
    """Return what is mounted nearest above `root`."""
    return next((at[path] for path in (root, *root.parents) if path in at), None)
