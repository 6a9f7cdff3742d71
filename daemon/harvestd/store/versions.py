"""What a file held before it was replaced, kept below `.harvestd/versions`, at most a few for each file.

The versions of `a/b` are the files of the directory `versions/a/b`, named by the UTC time at which they were kept; so
no name grows too long. Of too many, the oldest go first, but never the very first one: a box that rewrites a good file
again and again must not wash it out.
"""

import os
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from io import BufferedReader
from time import time_ns
from typing import Final

from harvestd import failpoints
from harvestd.convention.paths import LocalPath, encoded
from harvestd.convention.structs import Immutable
from harvestd.store.errors import shown, translating
from harvestd.store.ops.rename import NO_HARD_LINKS, rename_noreplace
from harvestd.store.root import DataRoot
from harvestd.store.walking import (
    CHUNK,
    Touched,
    made,
    names_in,
    open_regular,
    opened,
    reading,
    status,
    sync_directory,
    sync_touched,
)

KEEP: Final = 5
"""How many versions of one file stay."""

_STAMP: Final = re.compile(r"\d{8}T\d{6}\.\d{9}Z", re.ASCII)


class KeptVersion(Immutable, order=True):
    """One version that was replaced."""

    stamp: str
    """When it was kept, UTC, as yyyymmddThhmmss.nnnnnnnnnZ; its name, and unique for its file."""
    size: int
    """Bytes."""


def list_versions(root: DataRoot, path: LocalPath) -> tuple[KeptVersion, ...]:
    """Return the kept versions of the file at `path`, oldest first."""
    try:
        with translating(f"versions of {shown(path)}"), opened(root.versions, path.parts) as directory:
            return _in(directory)
    except FileNotFoundError:
        return ()


def read_version(root: DataRoot, path: LocalPath, stamp: str) -> bytes:
    """Return the content of one version; raises FileNotFoundError where it is not kept any more."""
    with (
        translating(f"versions of {shown(path)}"),
        opened(root.versions, path.parts) as directory,
        reading(directory, stamp) as file,
    ):
        return file.read()


def keep_version(root: DataRoot, path: LocalPath, parent: int, file: BufferedReader) -> None:
    """Return the file at `path` a second name among its versions, or a copy there; synced when this returns.

    `parent` is the open directory that `path` is in, `file` the file as it was opened there. A file that is the newest
    version already (a crash came before its replacement) is not linked again. Raises `DiskFull`, `HaltedForSafety`.
    """
    touched: Touched = set()
    with translating(f"can't keep a version of {shown(path)}"), made(root.versions, path.parts, touched) as directory:
        kept = _in(directory)
        here = os.fstat(file.fileno())
        if not (kept and _same_file(status(directory, kept[-1].stamp), here)):
            stamp = _next_stamp(kept)
            _link_or_copy(root, path.name, parent, file, (directory, stamp))
            sync_directory(directory)
            _prune(directory)
        sync_touched(root.versions, touched)


def keep_copy(root: DataRoot, path: LocalPath, file: int) -> None:
    """Copy the file at `path`, open as `file`, among its versions; synced when this returns.

    A copy that is the newest version already is not made again. Raises `DiskFull`, `HaltedForSafety`.
    """
    touched: Touched = set()
    with translating(f"can't keep a version of {shown(path)}"), made(root.versions, path.parts, touched) as directory:
        kept = _in(directory)
        if not (kept and _same_content(directory, kept[-1], file)):
            with root.stage() as staged:
                for piece in _pieces(file):
                    staged.write(piece)
                staged.sync()
                rename_noreplace(root.staging.directory, staged.name, directory, _next_stamp(kept))
            sync_directory(directory)
            _prune(directory)
        sync_touched(root.versions, touched)


def _pieces(file: int) -> Iterator[bytes]:
    offset = 0
    while piece := os.pread(file, CHUNK, offset):
        yield piece
        offset += len(piece)


def _same_content(directory: int, version: KeptVersion, file: int) -> bool:
    if version.size != os.fstat(file).st_size:
        return False
    with reading(directory, version.stamp) as kept:
        return all(kept.read(len(piece)) == piece for piece in _pieces(file))


def set_aside(root: DataRoot, path: LocalPath) -> bool:
    """Move the file at `path` among its versions, so that none stands there; tell whether there was one.

    Raises `Conflict` where no regular file stands there, `HaltedForSafety`.
    """
    if is_kept(root, path):
        _finish_setting_aside(root, path)
        return True
    touched: Touched = set()
    changed: Touched = {path.parts[:-1]}
    try:
        with root.parent(path) as parent, translating(f"can't set {shown(path)} aside"):
            os.close(open_regular(parent, path.name))
            with made(root.versions, path.parts, touched) as directory:
                rename_noreplace(parent, path.name, directory, _next_stamp(_in(directory)))
                sync_directory(directory)
                _prune(directory)
            sync_touched(root.versions, touched)
    except FileNotFoundError:
        return False
    root.sync(changed)
    return True


def begin_anew(root: DataRoot, path: LocalPath) -> None:
    """Put an empty file at `path`; what stood there is kept among its versions. Synced when this returns.

    A crash leaves the old file or the new one there, never none: the catalogue may say no more than the disk. Raises
    `Conflict` where no regular file stands there, `Refused`, `DiskFull`, `HaltedForSafety`.
    """
    touched: Touched = {path.parts[:-1]}
    with (
        root.stage() as empty,
        root.made_parent(path, touched) as parent,
        translating(f"can't begin {shown(path)} anew"),
    ):
        empty.sync()
        try:
            with reading(parent, path.name) as standing:
                keep_version(root, path, parent, standing)
        except FileNotFoundError:
            rename_noreplace(root.staging.directory, empty.name, parent, path.name)
        else:
            failpoints.reach("anew.kept")
            os.rename(encoded(empty.name), encoded(path.name), src_dir_fd=root.staging.directory, dst_dir_fd=parent)
        empty.moved()
        failpoints.reach("anew.begun")
    root.sync(touched)


def is_kept(root: DataRoot, path: LocalPath) -> bool:
    """Return whether the file at `path` is its newest version too: a crash came while it was to make room."""
    standing = root.stat(path)
    if standing is None or standing.st_nlink == 1:
        return False
    with translating(f"versions of {shown(path)}"):
        try:
            with opened(root.versions, path.parts) as directory:
                kept = _in(directory)
                return bool(kept) and _same_file(status(directory, kept[-1].stamp), standing)
        except FileNotFoundError:
            return False


def _finish_setting_aside(root: DataRoot, path: LocalPath) -> None:
    """Take the name at `path` from a file that is its newest version too: a move is a link and an unlink in places."""
    with translating(f"can't set {shown(path)} aside"):
        sync_touched(root.versions, {path.parts[:depth] for depth in range(len(path.parts) + 1)})
        with root.parent(path) as parent:
            os.unlink(encoded(path.name), dir_fd=parent)
    root.sync({path.parts[:-1]})


def _in(directory: int) -> tuple[KeptVersion, ...]:
    found = ((name, status(directory, name)) for name in names_in(directory) if _STAMP.fullmatch(name))
    return tuple(KeptVersion(name, answer.st_size) for name, answer in found if answer is not None)


def _next_stamp(kept: tuple[KeptVersion, ...]) -> str:
    now = time_ns()
    stamp = _stamp(now)
    if kept and stamp <= kept[-1].stamp:
        # The clock went back, or the tick is coarse: the order of the names is the order of keeping, always.
        whole, _, fraction = kept[-1].stamp.removesuffix("Z").partition(".")
        seconds = int(datetime.strptime(whole, "%Y%m%dT%H%M%S").replace(tzinfo=UTC).timestamp())
        stamp = _stamp(seconds * 10**9 + int(fraction) + 1)
    return stamp


def _stamp(nanoseconds: int) -> str:
    seconds, fraction = divmod(nanoseconds, 10**9)
    return f"{datetime.fromtimestamp(seconds, UTC):%Y%m%dT%H%M%S}.{fraction:09}Z"


def _same_file(one: os.stat_result | None, other: os.stat_result) -> bool:
    return one is not None and (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)


def _link_or_copy(root: DataRoot, name: str, parent: int, file: BufferedReader, place: tuple[int, str]) -> None:
    directory, stamp = place
    try:
        os.link(encoded(name), stamp, src_dir_fd=parent, dst_dir_fd=directory, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
    else:
        if _same_file(status(directory, stamp), os.fstat(file.fileno())):
            return
        # Another file took its place since it was opened. Whoever replaces will notice; keep the one that was opened.
        os.unlink(stamp, dir_fd=directory)
    with root.stage() as staged:
        file.seek(0)
        while piece := file.read(CHUNK):
            staged.write(piece)
        staged.sync()
        rename_noreplace(root.staging.directory, staged.name, directory, stamp)


def _prune(directory: int) -> None:
    kept = _in(directory)
    for version in kept[1 : max(1, len(kept) - KEEP + 1)]:
        os.unlink(version.stamp, dir_fd=directory)
