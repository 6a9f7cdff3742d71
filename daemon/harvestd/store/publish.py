"""Publishes complete, synced files from staging at their final paths, replacing nothing unknown.

The order guarantees this. All temporaries of a group are on disk before the first is moved; each is moved in one step;
a replaced version is kept below `versions/` before; every changed directory is on disk before `publish` returns. So a
crash leaves the old or the new content at each path, and publishing the same group again gives the same tree.
"""

import os
from collections.abc import Sequence
from enum import StrEnum
from io import BufferedReader

from harvestd import failpoints
from harvestd.convention.paths import LocalPath, encoded
from harvestd.convention.structs import Immutable
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged, sync_staged
from harvestd.store.versions import keep_version
from harvestd.store.walking import DirectoryWalker, Touched, reading, rename_noreplace, sha256_of, status

_PUBLISHING = translating("can't publish")


class Result(StrEnum):
    """The result of putting one thing at its path."""

    PUBLISHED = "published"
    """It is at its path now."""
    ADOPTED = "adopted"
    """The same content was already there and stays."""
    CONFLICT = "conflict"
    """Something that harvestd did not publish, or that was edited since, is there and was not touched."""
    REFUSED = "refused"
    """The file system rejects this name at this place."""


class Publication(Immutable, gc=False):
    """One file to put at its final path. `publish` always closes the temporary."""

    staged: Staged
    target: LocalPath
    replaces: str | None = None
    """The SHA-256 of the recorded version at the path; None if there is none."""


class Outcome(Immutable, gc=False):
    """The result of one publication."""

    target: LocalPath
    result: Result
    size: int
    """Bytes of the content that was to be published."""
    sha256: str
    detail: str = ""
    """The reason for CONFLICT and REFUSED as a sentence, safe for display."""


def publish(root: DataRoot, publications: Sequence[Publication]) -> list[Outcome]:
    """Put a group of files at their paths in the given order (the group's marker last), each separately.

    CONFLICT or REFUSED for one does not stop those after it. When this returns, all PUBLISHED and ADOPTED files are
    synced. Raise `DiskFull`, `HaltedForSafety` or `Retry` if the disk fails: some complete files may then be at their
    paths, and publishing them again adopts them. Anonymous temporaries are always removed.
    """
    touched: Touched = set()
    try:
        failpoints.reach("publish.started")
        sync_staged([publication.staged for publication in publications])
        failpoints.reach("publish.staged_synced")
        with root.walker() as walker:
            outcomes = [_publish(root, publication, walker, touched) for publication in publications]
        failpoints.reach("publish.renamed_all")
        root.sync(touched)
        failpoints.reach("publish.directories_synced")
        return outcomes
    finally:
        for publication in publications:
            publication.staged.close()


def _publish(root: DataRoot, publication: Publication, walker: DirectoryWalker, touched: Touched) -> Outcome:
    staged = publication.staged
    detail = ""
    try:
        result = _place(root, publication, walker, touched)
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


def _place(root: DataRoot, publication: Publication, walker: DirectoryWalker, touched: Touched) -> Result:
    try:
        return _move(root, publication, walker, touched)
    except FileNotFoundError:
        # A person may have removed a directory that was held open since the previous file: open or create it again.
        walker.close()
        return _move(root, publication, walker, touched)


def _move(root: DataRoot, publication: Publication, walker: DirectoryWalker, touched: Touched) -> Result:
    staged, target = publication.staged, publication.target
    directory = target.parts[:-1]
    with translating(target):
        parent = walker.made(directory, touched)
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
    """Return whether the existing file has the new content, and sync it if so, since it may not be synced yet."""
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
    # Remaining race: if a person saves a file under this name by renaming, between the check and this rename, that save
    # is lost. A write into the file that was there is kept among the versions.
    os.rename(encoded(publication.staged.name), encoded(name), src_dir_fd=root.staging.directory, dst_dir_fd=parent)


def _identity(found: os.stat_result) -> tuple[int, int, int, int]:
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns
