"""Sealed publishing: whole files, synced, from staging to their final paths, replacing nothing unknown.

The order is the promise. All temporaries of a group are on disk before the first one moves; each moves in one step; a
version that is replaced stands below `versions/` before; every touched directory is on disk before `publish` returns.
So a crash leaves the old or the new content at each path, and running the same group again ends in the same tree.
"""

import os
from collections.abc import Sequence
from enum import StrEnum
from io import BufferedReader

from harvestd import failpoints
from harvestd.convention.paths import LocalPath, encoded
from harvestd.convention.structs import Immutable
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.ops.rename import rename_noreplace
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged, sync_staged
from harvestd.store.versions import keep_version
from harvestd.store.walking import Touched, Way, reading, sha256_of, status

_PUBLISHING = translating("can't publish")


class Result(StrEnum):
    """How putting one thing at its path ended."""

    PUBLISHED = "published"
    """It stands there now."""
    ADOPTED = "adopted"
    """The same content stood there already and stays."""
    CONFLICT = "conflict"
    """Something that harvestd did not file, or that was edited since, stands there untouched."""
    REFUSED = "refused"
    """The file system does not take this name at this place."""


class Publication(Immutable, gc=False):
    """One file to put at its final path. `publish` takes the temporary over and closes it in every case."""

    staged: Staged
    target: LocalPath
    replaces: str | None = None
    """The SHA-256 of the version that the catalogue says stands there; None the first time."""


class Outcome(Immutable, gc=False):
    """What became of one publication."""

    target: LocalPath
    result: Result
    size: int
    """Bytes of the content that was to be published."""
    sha256: str
    detail: str = ""
    """For CONFLICT and REFUSED a sentence that says why, safe to show."""


def publish(root: DataRoot, publications: Sequence[Publication]) -> list[Outcome]:
    """Put a group of files at their paths in the given order (a group's marker last), each on its own.

    One that ends in CONFLICT or REFUSED does not stop those after it. When this returns, what is PUBLISHED or ADOPTED
    is synced. Raises `DiskFull`, `HaltedForSafety` or `Retry` where the disk fails: some files may then stand at their
    paths, whole, and publishing them again adopts them. Anonymous temporaries are gone afterwards in every case.
    """
    touched: Touched = set()
    try:
        failpoints.reach("publish.started")
        sync_staged([publication.staged for publication in publications])
        failpoints.reach("publish.staged_synced")
        with root.way() as way:
            outcomes = [_publish(root, publication, way, touched) for publication in publications]
        failpoints.reach("publish.renamed_all")
        root.sync(touched)
        failpoints.reach("publish.directories_synced")
        return outcomes
    finally:
        for publication in publications:
            publication.staged.close()


def _publish(root: DataRoot, publication: Publication, way: Way, touched: Touched) -> Outcome:
    staged = publication.staged
    detail = ""
    try:
        result = _place(root, publication, way, touched)
    except Conflict as error:
        result, detail = Result.CONFLICT, str(error)
    except Refused as error:
        result, detail = Result.REFUSED, str(error)
    except FileNotFoundError:
        result, detail = Result.CONFLICT, "its directory was taken away while it was published"
    if result is Result.PUBLISHED:
        staged.moved()
    else:
        staged.discard()
    return Outcome(publication.target, result, staged.size, staged.hexdigest, detail)


def _place(root: DataRoot, publication: Publication, way: Way, touched: Touched) -> Result:
    try:
        return _move(root, publication, way, touched)
    except FileNotFoundError:
        # Perhaps a person took a directory away that was held open since the file before: walk again, and make it.
        way.close()
        return _move(root, publication, way, touched)


def _move(root: DataRoot, publication: Publication, way: Way, touched: Touched) -> Result:
    staged, target = publication.staged, publication.target
    directory = target.parts[:-1]
    with translating(target):
        parent = way.made(directory, touched)
    with _PUBLISHING:
        failpoints.reach("publish.directory_made")
        touched.add(directory)
        try:
            rename_noreplace(root.staging.directory, staged.name, parent, target.name)
        except FileExistsError:
            with reading(parent, target.name) as standing:
                if _adopted(standing, staged):
                    return Result.ADOPTED
                _replace(root, publication, parent, standing)
        failpoints.reach("publish.renamed")
    return Result.PUBLISHED


def _adopted(standing: BufferedReader, staged: Staged) -> bool:
    """Return whether the file that stands there is the new one already, and sync it if so: nobody else may have."""
    if os.fstat(standing.fileno()).st_size != staged.size or sha256_of(standing) != staged.hexdigest:
        return False
    os.fsync(standing.fileno())
    return True


def _replace(root: DataRoot, publication: Publication, parent: int, standing: BufferedReader) -> None:
    name = publication.target.name
    if publication.replaces is None:
        raise Conflict("another file stands there that harvestd did not file")
    before = os.fstat(standing.fileno())
    if sha256_of(standing) != publication.replaces:
        raise Conflict("the file that stands there was changed since harvestd filed it")
    failpoints.reach("publish.compared")
    keep_version(root, publication.target, parent, standing)
    failpoints.reach("publish.version_kept")
    now = status(parent, name)
    if now is None or _identity(now) != _identity(before):
        raise Conflict("the file that stands there changed while it was to be replaced")
    # A race stays: a person who saves a file under this name by renaming, between the line above and the one below,
    # loses that one save. One who writes into the file that stood there finds it among the versions.
    os.rename(encoded(publication.staged.name), encoded(name), src_dir_fd=root.staging.directory, dst_dir_fd=parent)


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
