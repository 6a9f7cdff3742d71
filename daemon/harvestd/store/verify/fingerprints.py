"""Fingerprints of what blocks a path of the data root, to detect later changes: by lstat alone."""

import os
import stat
from collections.abc import Iterable

from harvestd.convention.paths import LocalPath
from harvestd.store.errors import Conflict, Refused
from harvestd.store.root import DataRoot

Fingerprint = tuple[tuple[int, ...], ...]
"""One part for each existing component; that of a directory on the way covers access rights, not its content."""


def fingerprints(root: DataRoot, paths: Iterable[LocalPath]) -> list[Fingerprint]:
    """Return the present fingerprint of each path. Raise `HaltedForSafety` if the disk fails."""
    return [_fingerprint(root, path) for path in paths]


def _fingerprint(root: DataRoot, path: LocalPath) -> Fingerprint:
    found: list[tuple[int, ...]] = []
    for depth in range(1, len(path.parts) + 1):
        try:
            answer = root.stat(LocalPath(path.parts[:depth]))
        except (Conflict, Refused):
            break
        if answer is None:
            break
        found.append(_content(answer) if depth == len(path.parts) or not stat.S_ISDIR(answer.st_mode) else _way(answer))
    return tuple(found)


def is_absent(path: LocalPath, found: Fingerprint) -> bool:
    """Return whether nothing is at `path`, and only directories are on the way to it."""
    return len(found) < len(path.parts) and all(len(part) == len(_WAY) for part in found)


_WAY = ("inode", "mode", "owner", "group")


def _way(answer: os.stat_result) -> tuple[int, ...]:
    return answer.st_ino, answer.st_mode, answer.st_uid, answer.st_gid


def _content(answer: os.stat_result) -> tuple[int, ...]:
    return (*_way(answer), answer.st_size, answer.st_mtime_ns, answer.st_ctime_ns)
