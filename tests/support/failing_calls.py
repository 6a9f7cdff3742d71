"""The n-th call of one kind that writes to a data root fails, for n = 1, 2, 3 …: as on a disk that begins to die."""

import ctypes
import errno
import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final
from unittest import mock

from sqlalchemy.exc import OperationalError

from harvestd import failpoints
from harvestd.store import walking

CALLS: Final = ("pwrite", "fsync", "fdatasync", "rename", "link", "mkdir", "renameat2", "commit")
"""What can be made to fail; by their names in `os`, but for the last two."""


class NthCall:
    """Counts calls, and fails one of them."""

    def __init__(self, number: int, code: int) -> None:
        self._numbers = count(1)
        self._number = number
        self.code = code
        self.fired = False

    def is_due(self) -> bool:
        """Count a call; tells whether this is the one that fails."""
        if next(self._numbers) != self._number:
            return False
        self.fired = True
        return True


@contextmanager
def failing(call: str, number: int, code: int, data: Path) -> Iterator[NthCall]:
    """Let the call's `number`-th use below the data root `data` fail with an errno; `fired` tells whether it came."""
    nth = NthCall(number, code)
    if call == "commit":

        def commit() -> None:
            if nth.is_due():
                error = "database or disk is full" if code == errno.ENOSPC else "disk I/O error"
                raise OperationalError("COMMIT", {}, sqlite3.OperationalError(error))

        with failpoints.armed("catalogue.changed", commit):
            yield nth
    elif call == "renameat2":
        with mock.patch.object(walking, "renameat2", _failing_renameat2(nth)):
            yield nth
    else:
        with mock.patch.object(os, call, _failing_call(getattr(os, call), nth, data)):
            yield nth


def _failing_renameat2(nth: NthCall) -> walking.Renameat2:
    real = walking.renameat2
    assert real is not None, "this kernel has no renameat2"

    def called(source: int, name: bytes, target: int, new_name: bytes, flags: int) -> int:
        if nth.is_due():
            ctypes.set_errno(nth.code)
            return -1
        return real(source, name, target, new_name, flags)

    return called


def _failing_call(real: Callable[..., Any], nth: NthCall, data: Path) -> Callable[..., Any]:
    def called(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401  (stands for calls of every form)
        file = kwargs.get("dst_dir_fd", kwargs.get("dir_fd", args[0]))
        is_ours = isinstance(file, int) and Path(f"/proc/self/fd/{file}").readlink().is_relative_to(data)
        if is_ours and nth.is_due():
            raise OSError(nth.code, os.strerror(nth.code))
        return real(*args, **kwargs)

    return called
