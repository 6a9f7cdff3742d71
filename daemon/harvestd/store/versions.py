"""Keeps earlier contents of replaced files below `.harvestd/versions`, a limited number for each file.

The versions of `a/b` are the files in the directory `versions/a/b`, named by the UTC time at which they were kept, so
no name gets too long. Above the limit the oldest are removed, except the very first one: a host that rewrites a good
file repeatedly must not displace it.
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
from harvestd.store.root import DataRoot
from harvestd.store.walking import (
    CHUNK,
    NO_HARD_LINKS,
    Touched,
    made,
    names_in,
    open_regular,
    opened,
    reading,
    rename_noreplace,
    status,
    sync_directory,
    sync_touched,
)

KEEP: Final = 5
"""The number of versions kept for each file."""

_STAMP: Final = re.compile(r"\d{8}T\d{6}\.\d{9}Z", re.ASCII)


class KeptVersion(Immutable, order=True):
    """One version that was replaced."""

    stamp: str
    """When it was kept, in UTC, as yyyymmddThhmmss.nnnnnnnnnZ; this is its name and unique for its file."""
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
    """Return the content of one version; raise FileNotFoundError if it is no longer kept."""
    with (
        translating(f"versions of {shown(path)}"),
        opened(root.versions, path.parts) as directory,
        reading(directory, stamp) as file,
    ):
        return file.read()


def keep_version(root: DataRoot, path: LocalPath, parent: int, file: BufferedReader) -> None:
    """Add the file at `path` to its versions by a hard link or a copy; it is synced when this returns.

    `parent` is the open directory of `path`, `file` the file as it was opened there. If it is already the newest
    version (a crash happened before its replacement), it is not added again. Raise `DiskFull`, `HaltedForSafety`.
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
    """Add a copy of the file at `path`, open as `file`, to its versions; it is synced when this returns.

    If the newest version has the same content, no copy is made. Raise `DiskFull`, `HaltedForSafety`.
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
    """Move the file at `path` to its versions, so that the path is free; return whether there was a file.

    Raise `Conflict` if it is not a regular file, `HaltedForSafety`.
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
    """Replace the file at `path` by an empty one and keep it as a version; it is synced when this returns.

    A crash leaves the old file or the new one, never none: the catalogue must never be ahead of the disk. Raise
    `Conflict` if something other than a regular file is there, `Refused`, `DiskFull`, `HaltedForSafety`.
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
    """Return whether the file at `path` is also its newest version: a crash interrupted `set_aside`."""
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
    """Unlink `path`, which is also its newest version: on some file systems a move is a link and an unlink."""
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
        # The clock was set back, or is coarse: the order of names must always be the order of keeping.
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
        # Another file replaced it since it was opened, which the caller detects later; keep the one that was opened.
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
