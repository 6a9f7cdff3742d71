"""A Unix socket in a directory of this machine that nobody but its owner can reach, for as long as it listens.

A socket's path may have 107 bytes, a directory's many more: it is bound and reached through a handle of its directory.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from harvestd.store.errors import translating

_BACKLOG: Final = 64


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Provide a short path to the same place. Raise `OSError` where its directory can't be opened."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen at `path` for the body, in place of a socket that a dead process left; the lock is the caller's affair.

    Raises `Fatal` or `HaltedForSafety` where that can't be done, for one where something else stands there.
    """
    with translating(f"can't listen at {path}"), short_path(path) as short:
        place = Path(short)
        if place.is_socket() and not place.is_symlink():
            place.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
            # Linux gives the file the socket's own mode: it is never, not for a moment, another's to open.
            os.fchmod(listener.fileno(), stat.S_IRUSR | stat.S_IWUSR)
            listener.bind(short)
            listener.listen(_BACKLOG)
            listener.setblocking(False)  # noqa: FBT003  (its only argument)
            try:
                yield listener
            finally:
                place.unlink(missing_ok=True)
