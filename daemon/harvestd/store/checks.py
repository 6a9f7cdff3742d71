"""Checks before any work on a data root: that it is the right one, by its sentinel, and that it can be written.

An unmounted disk, a mistyped path, a read-only mount and a directory of another user are reported before the first
write, each with a hint. Nothing may be created in a directory that should already have been a data root.

The sentinel `.harvestd/root.json` has the id of the data root, which the catalogue records. If the disk of the data
root is not mounted, its mount point looks like an empty data root; the missing id distinguishes the two before a byte
is written.
"""

import errno
import json
import os
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from harvestd.convention.paths import RESERVED
from harvestd.convention.structs import Immutable
from harvestd.errors import Fatal
from harvestd.store.errors import Conflict, translating
from harvestd.store.staging import Staging
from harvestd.store.walking import open_component, reading, rename_noreplace, sync_directory

NAME: Final = "root.json"
_LIMIT: Final = 4096
"""Bytes; a sentinel is far shorter."""


class Sentinel(Immutable):
    """The content of the file."""

    id: str
    """A UUID, created once and constant for the data root."""
    created: datetime

    def to_json(self) -> bytes:
        """Return the file's content."""
        return json.dumps({"id": self.id, "created": self.created.isoformat()}).encode() + b"\n"


def read_sentinel(own: int) -> Sentinel | None:
    """Return the sentinel in the open directory `.harvestd`; None if there is none. Raise `Fatal` if unreadable."""
    try:
        with translating("can't read the data root's mark"), reading(own, NAME) as file:
            content = file.read(_LIMIT)
    except FileNotFoundError:
        return None
    except Conflict as error:
        raise Fatal(f".harvestd/{NAME} in the data root: {error}", hint="restore it from a backup") from error
    try:
        found = json.loads(content)
        return Sentinel(str(uuid.UUID(found["id"])), datetime.fromisoformat(found["created"]))
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise Fatal(
            f".harvestd/{NAME} in the data root is not what harvestd wrote",
            hint="restore it from a backup, or delete it and the catalogue: what is here is then adopted",
        ) from error


def make_sentinel(own: int, staging: Staging) -> Sentinel:
    """Write a new sentinel, synced; if another process was faster, return its one. Raise `HaltedForSafety`."""
    made = Sentinel(str(uuid.uuid4()), datetime.now(UTC))
    with staging.create() as staged, translating("can't write the data root's mark"):
        staged.write(made.to_json())
        staged.sync()
        try:
            rename_noreplace(staging.directory, staged.name, own, NAME)
        except FileExistsError:
            return read_sentinel(own) or made
        sync_directory(own)
    return made


_FOR_OTHERS: Final = 0o077
_UNWRITABLE: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})


class Opened(Immutable):
    """The descriptors of an open data root, and its sentinel."""

    root: int
    own: int
    """The descriptor of `.harvestd`."""
    staging: int
    versions: int
    sentinel: Sentinel


def open_data_root(path: Path, descriptors: ExitStack, *, create: bool, expected_id: str | None) -> Opened:
    """Open and check the data root at `path`; closing `descriptors` closes everything.

    `create` and `expected_id` are as in `DataRoot.open`. Raise `Fatal` for what the operator must fix, and `DiskFull`
    if there is not even space for an empty file.
    """
    with _explaining(path):
        if create:
            path.mkdir(parents=True, exist_ok=True)
        # The operator chose the path to the root, links included; only links below it are untrusted.
        root = _kept(descriptors, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))
        if expected_id is not None:
            _check_identity(path, root, expected_id)
        if not os.access(".", os.W_OK | os.X_OK, dir_fd=root, effective_ids=True):
            # Without write access, check for a read-only mount first: modes do not show it.
            why = errno.EROFS if os.fstatvfs(root).f_flag & os.ST_RDONLY else errno.EACCES
            raise OSError(why, os.strerror(why))
        own = _kept(descriptors, _private_directory(root, RESERVED))
        staging = _kept(descriptors, _private_directory(own, "staging"))
        versions = _kept(descriptors, _private_directory(own, "versions"))
        _check_by_writing(path, root, own, staging)
        sentinel = read_sentinel(own) or make_sentinel(own, Staging(staging))
    return Opened(root, own, staging, versions, sentinel)


def _kept(descriptors: ExitStack, descriptor: int) -> int:
    descriptors.callback(os.close, descriptor)
    return descriptor


def _private_directory(base: int, name: str) -> int:
    try:
        os.mkdir(name, 0o700, dir_fd=base)
        sync_directory(base)
    except FileExistsError:
        pass
    directory = open_component(base, name)
    mode = os.fstat(directory).st_mode
    if mode & _FOR_OTHERS:
        os.fchmod(directory, mode & ~_FOR_OTHERS & 0o7777)
    return directory


def _check_identity(path: Path, root: int, expected_id: str) -> None:
    try:
        own = open_component(root, RESERVED)
        try:
            found = read_sentinel(own)
        finally:
            os.close(own)
    except (FileNotFoundError, NotADirectoryError):
        found = None
    if found is None or found.id != expected_id:
        raise Fatal(
            f"{path} is not the data root that the catalogue knows",
            hint="is the disk mounted? If the data root was moved on purpose, move its .harvestd along",
        )


def _check_by_writing(path: Path, root: int, own: int, staging: int) -> None:
    """Create a temporary file: permissions alone do not reveal quotas, mounts and mapped users."""
    with Staging(staging).create() as staged:
        mine = staged.status()
    if os.fstat(own).st_uid != mine.st_uid:
        raise Fatal(
            f"{path / RESERVED} belongs to user {os.fstat(own).st_uid}",
            hint="run harvestd as the user that the data root belongs to",
        )
    if mine.st_dev != os.fstat(root).st_dev:
        raise Fatal(
            f"{path / RESERVED} lies on another file system than {path}",
            hint="files move into place within one file system: mount the whole data root as one",
        )


@contextmanager
def _explaining(path: Path) -> Iterator[None]:
    """Convert errors of opening to `Fatal` with a hint, and a full disk to `DiskFull`."""
    try:
        with translating(f"can't open the data root {path}"):
            try:
                yield
            except FileNotFoundError as error:
                raise Fatal(f"there is no directory {path}", hint="is the disk mounted?") from error
            except OSError as error:
                if error.errno not in _UNWRITABLE:
                    raise
                raise Fatal(
                    f"the data root {path} can't be written: {error.strerror}",
                    hint="check its owner, its mode and how its disk is mounted",
                ) from error
    except Conflict as error:
        raise Fatal(
            f"the data root {path} or its {RESERVED} is not a directory",
            hint="set data_root to a directory that harvestd may use as its own",
        ) from error
