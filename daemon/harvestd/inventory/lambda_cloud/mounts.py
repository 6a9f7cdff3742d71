"""The cloud's file systems on a host, which outlive the host and may be mounted on several hosts at once."""

from collections.abc import Iterable
from pathlib import PurePosixPath

from harvestd.convention.structs import Immutable


class Mount(Immutable, order=True):
    """One of the cloud's file systems on a host."""

    point: str
    """Where it is mounted: an absolute path."""
    storage: str
    """The cloud's id of the file system."""


def storage_of(mounts: Iterable[Mount], roots: Iterable[str], user: str) -> str | None:
    """Return the one file system that holds all `roots`; None where there are several, or where it is unknown.

    Treating two disks as one would mix their runs, while treating one as two costs a second copy: in doubt it is None.
    """
    at = {PurePosixPath(mount.point): mount.storage for mount in mounts}
    # The cloud's images also link each file system in the user's home directory; the operator's roots may use either
    # path.
    at |= {PurePosixPath("/home", user, point.name): storage for point, storage in at.items()}
    found = {_below(PurePosixPath(root), at) for root in roots}
    return found.pop() if len(found) == 1 else None


def _below(root: PurePosixPath, at: dict[PurePosixPath, str]) -> str | None:
    """Return the file system that is mounted nearest above `root`."""
    return next((at[path] for path in (root, *root.parents) if path in at), None)
