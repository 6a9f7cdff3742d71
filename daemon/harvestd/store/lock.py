"""One writer for each data root: a lock on `.harvestd/lock` that the kernel releases when its holder dies.

It is an *open file description* lock: like flock it belongs to the open file, so threads don't lose it by closing
another descriptor, and unlike flock it can be asked for without being taken, so that a question never makes a daemon
that starts at the same moment fail. The holder's pid stands in the file, for people; whoever leaves in order wipes it
out, so that the next holder knows whether the last one died.
"""

import fcntl
import os
import struct
from types import TracebackType
from typing import Final, Self

from harvestd.errors import ExitCode, Fatal
from harvestd.store.failures import translating
from harvestd.store.root import DataRoot
from harvestd.store.walking import open_regular

_NAME: Final = "lock"
_FLOCK: Final = struct.Struct("@hhqqi0q")
"""C's struct flock on Linux: type, whence, start, length, pid."""
_WHOLE_FILE: Final = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)


class DataRootLock:
    """The lock, held. Made by `take`; a context manager that releases it at the end."""

    def __init__(self, file: int, *, found_in_order: bool) -> None:
        self._file = file
        self.found_in_order: Final = found_in_order
        """Whether the last holder, if there was one, said that it left nothing undone."""

    @classmethod
    def take(cls, root: DataRoot) -> Self:
        """Take the lock at once or raise `Fatal` with `ExitCode.LOCKED`, naming the process that holds it."""
        with translating("can't open the data root's lock"):
            file = open_regular(root.own, _NAME, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        except BlockingIOError as error:
            pid = _written_pid(file)
            os.close(file)
            raise Fatal(
                f"another harvestd works on {root.path}",
                hint=f"it is process {pid}; stop it, or ask it instead" if pid else "it starts at this moment",
                exit_code=ExitCode.LOCKED,
            ) from error
        except OSError:
            os.close(file)
            raise
        try:
            with translating("can't write the data root's lock"):
                in_order = _written_pid(file) == 0
                _write(file, str(os.getpid()))
        except BaseException:
            os.close(file)
            raise
        return cls(file, found_in_order=in_order)

    def leave_in_order(self) -> None:
        """Note that nothing was left undone, just before the lock is released. Raises `HaltedForSafety`."""
        with translating("can't write the data root's lock"):
            _write(self._file, "")

    def release(self) -> None:
        """Let the lock go; the file stays, for a lock file that is deleted can be held twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder(root: DataRoot) -> int | None:
    """Give the pid of the process that holds the lock, without taking it; None where nobody does.

    0 means a holder that has not written its pid yet. Raises `HaltedForSafety` where the file can't be read.
    """
    try:
        with translating("can't ask for the data root's lock"):
            file = open_regular(root.own, _NAME, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        with translating("can't ask for the data root's lock"):
            kind = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_OFD_GETLK, _WHOLE_FILE))[0]
        return None if kind == fcntl.F_UNLCK else _written_pid(file)
    finally:
        os.close(file)


def _write(file: int, text: str) -> None:
    # A fixed width: on a full disk an existing lock file can still be written over.
    os.pwrite(file, f"{text:>19}\n".encode(), 0)


def _written_pid(file: int) -> int:
    text = os.pread(file, 20, 0).strip()
    return int(text) if text.isdigit() else 0
