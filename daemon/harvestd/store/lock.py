"""The lock that allows one writer per data root: on `.harvestd/lock`, released by the kernel when its holder dies.

It is an *open file description* lock. Like flock, it belongs to the open file, so threads do not lose it by closing
another descriptor. Unlike flock, it can be queried without being taken, so a query never makes a daemon that starts at
the same time fail. The file has two lines of fixed width: the holder's pid, which a holder erases on an orderly exit,
so that the next one can detect a crash; and the kind of process.
"""

import fcntl
import os
import struct
from enum import StrEnum
from types import TracebackType
from typing import Final, Self

from harvestd.convention.structs import Immutable
from harvestd.errors import ExitCode, Fatal
from harvestd.store.errors import translating
from harvestd.store.root import DataRoot
from harvestd.store.walking import open_regular

_NAME: Final = "lock"
_FLOCK: Final = struct.Struct("@hhqqi0q")
"""Linux's struct flock: type, whence, start, length, pid."""
_WHOLE_FILE: Final = _FLOCK.pack(fcntl.F_WRLCK, os.SEEK_SET, 0, 0, 0)
_LINE: Final = 20
"""Bytes of one line of the file, including its newline."""


class HolderKind(StrEnum):
    """The kind of process that holds a data root."""

    DAEMON = "daemon"
    """`run`: watches all hosts until it is stopped. Also the kind of any holder that has not written one."""
    ATTENDANT = "attendant"
    """`wait` without a daemon: watches one host while the command runs, and answers requests meanwhile."""
    COMMAND = "command"
    """Any other command: it ends by itself and answers no requests for a verdict."""


class Holder(Immutable):
    """The process that holds a data root."""

    pid: int
    """0: not written yet."""
    kind: HolderKind

    @property
    def answers(self) -> bool:
        """Whether it answers requests for a verdict."""
        return self.kind is not HolderKind.COMMAND


class Held(Fatal):
    """Another process holds the data root."""

    def __init__(self, root: DataRoot, holder: Holder) -> None:
        """Make the error with the process and a hint for it."""
        if not holder.pid:
            hint = "it starts at this moment"
        elif holder.kind is HolderKind.COMMAND:
            hint = f"it is process {holder.pid}, a command that ends by itself; wait for it, or stop it"
        else:
            hint = f"it is process {holder.pid}; stop it, or ask it instead"
        super().__init__(f"another harvestd works on {root.path}", hint=hint, exit_code=ExitCode.LOCKED)
        self.holder: Final = holder


class DataRootLock:
    """The held lock. Made by `take`; a context manager that releases it."""

    def __init__(self, file: int, kind: HolderKind, *, found_in_order: bool) -> None:
        self._file = file
        self._kind = kind
        self.found_in_order: Final = found_in_order
        """Whether the last holder, if any, recorded an orderly exit."""

    @classmethod
    def take(cls, root: DataRoot, kind: HolderKind = HolderKind.COMMAND) -> Self:
        """Take the lock without waiting, as a process of this kind; raise `Held` if another process has it."""
        with translating("can't open the data root's lock"):
            file = open_regular(root.own, _NAME, os.O_RDWR | os.O_CREAT)
        try:
            fcntl.fcntl(file, fcntl.F_OFD_SETLK, _WHOLE_FILE)
        except BlockingIOError as error:
            found = _written(file)
            os.close(file)
            raise Held(root, found) from error
        except OSError:
            os.close(file)
            raise
        try:
            with translating("can't write the data root's lock"):
                in_order = _written(file).pid == 0
                _write(file, str(os.getpid()), kind)
        except BaseException:
            os.close(file)
            raise
        return cls(file, kind, found_in_order=in_order)

    def leave_in_order(self) -> None:
        """Record an orderly exit, just before the lock is released. Raise `HaltedForSafety` on failure."""
        with translating("can't write the data root's lock"):
            # The kind stays, since closing everything else may take a while.
            _write(self._file, "", self._kind)

    def release(self) -> None:
        """Release the lock; the file stays, since a deleted lock file could be locked twice."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def holder(root: DataRoot) -> Holder | None:
    """Return the process that holds the lock, without taking it; None if there is none.

    Raise `HaltedForSafety` if the file can't be read.
    """
    try:
        with translating("can't ask for the data root's lock"):
            file = open_regular(root.own, _NAME, os.O_RDWR)
    except FileNotFoundError:
        return None
    try:
        with translating("can't ask for the data root's lock"):
            kind = _FLOCK.unpack(fcntl.fcntl(file, fcntl.F_OFD_GETLK, _WHOLE_FILE))[0]
        return None if kind == fcntl.F_UNLCK else _written(file)
    finally:
        os.close(file)


def _write(file: int, pid: str, kind: str) -> None:
    # With a fixed width, an existing lock file can be overwritten even on a full disk.
    width = _LINE - 1
    os.pwrite(file, f"{pid:>{width}}\n{kind:>{width}}\n".encode(), 0)


def _written(file: int) -> Holder:
    pid, kind = (os.pread(file, _LINE, start).strip().decode("ascii", "replace") for start in (0, _LINE))
    known = HolderKind(kind) if kind in set(HolderKind) else HolderKind.DAEMON
    return Holder(int(pid) if pid.isdigit() else 0, known)
