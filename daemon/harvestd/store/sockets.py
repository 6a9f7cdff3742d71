"""A Unix socket that only its owner can open, for as long as it listens.

A socket's path is limited to 107 bytes, unlike a directory's: it is bound and opened through a descriptor of its
directory.
"""

import os
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from harvestd.settings import Settings
from harvestd.store.errors import translating

_BACKLOG: Final = 64


@contextmanager
def short_path(path: Path) -> Iterator[str]:
    """Provide a short path to the same place. Raise `OSError` if its directory can't be opened."""
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{directory}/{path.name}"
    finally:
        os.close(directory)


@contextmanager
def listening(path: Path) -> Iterator[socket.socket]:
    """Listen at `path` during the body, replacing the socket of a dead process; the caller must hold a lock.

    Raise `Fatal` or `HaltedForSafety` if that fails, for example because something other than a socket is there.
    """
    with translating(f"can't listen at {path}"), short_path(path) as short:
        place = Path(short)
        if place.is_socket() and not place.is_symlink():
            place.unlink(missing_ok=True)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as listener:
            # Linux creates the file with the socket's own mode, so other users can never open it.
            os.fchmod(listener.fileno(), stat.S_IRUSR | stat.S_IWUSR)
            listener.bind(short)
            listener.listen(_BACKLOG)
            listener.setblocking(False)  # noqa: FBT003  (its only argument)
            try:
                yield listener
            finally:
                place.unlink(missing_ok=True)


NAME: Final = "api.sock"


def socket_path(settings: Settings) -> Path:
    """Return the socket's path; it may be longer than a socket's path can be, see `store.sockets.short_path`."""
    return settings.state / NAME
