"""A private temporary directory in which one of our programs writes, and from which the results are read.

It is in the system's directory for temporary files, has only reproducible content, and is removed after use. That of a
killed process is removed when the next one is made, once it is an hour old.
"""

import os
import shutil
import stat
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from harvestd.convention.paths import LocalPath
from harvestd.errors import Retry
from harvestd.store.root import DataRoot

_PREFIX: Final = "harvestd-drawing-"
_OLD: Final = 3_600.0
"""Seconds; no drawing takes that long."""
_MOST: Final = 32
_LARGEST: Final = 32 << 20
"""Bytes of one file."""


def set_up() -> Path:
    """Make an empty directory that only this user can enter; raise `Retry` if there is no space."""
    try:
        _clear_old(Path(tempfile.gettempdir()))
        return Path(tempfile.mkdtemp(prefix=_PREFIX))
    except OSError as error:
        raise Retry(
            f"can't make a temporary directory: {error.strerror}", hint="is there room below TMPDIR?"
        ) from error


def _clear_old(directory: Path) -> None:
    for path in directory.glob(f"{_PREFIX}*"):
        answer = path.lstat()
        if answer.st_uid == os.geteuid() and time.time() - answer.st_mtime > _OLD:
            clear_away(path)


def clear_away(directory: Path) -> None:
    """Remove the directory with its content; whatever can't be removed stays."""
    shutil.rmtree(directory, ignore_errors=True)


def fill(directory: Path, files: Mapping[str, bytes]) -> None:
    """Write `files` by name into a directory that `set_up` made; raise `Retry` if there is no space."""
    try:
        for name, content in files.items():
            (directory / name).write_bytes(content)
    except OSError as error:
        raise Retry(
            f"can't write into a temporary directory: {error.strerror}", hint="is there room below TMPDIR?"
        ) from error


def made_in(directory: Path, suffix: str) -> Mapping[str, bytes]:
    """Return the files that end in `suffix`, by name; links, too large files, and files beyond a limit are ignored.

    Raise `Retry` if they can't be read.
    """
    found: dict[str, bytes] = {}
    try:
        for path in sorted(directory.glob(f"*{suffix}")):
            answer = path.lstat()
            if stat.S_ISREG(answer.st_mode) and answer.st_size <= _LARGEST and len(found) < _MOST:
                found[path.name] = path.read_bytes()
    except OSError as error:
        raise Retry(f"can't read what was made in a temporary directory: {error.strerror}") from error
    return found


def place_to_read(root: DataRoot, directory: LocalPath) -> Path:
    """Return an experiment's directory as a path, for one of our programs that reads there and writes elsewhere."""
    return root.path.joinpath(*directory.parts)
