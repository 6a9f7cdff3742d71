"""Renames without replacing anything, by the strongest means of the file system.

Linux's renameat2 with RENAME_NOREPLACE is one atomic step. If a file system lacks it (NFS, exFAT), link and unlink
refuse as reliably. Without hard links, only a check before the rename remains.
"""

import ctypes
import errno
import os
from collections.abc import Callable
from typing import Final

from harvestd import failpoints
from harvestd.convention.paths import encoded
from harvestd.store.walking import status

_NOREPLACE: Final = 1
_LACKING: Final = frozenset({errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP})
NO_HARD_LINKS: Final = frozenset({errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK})
"""Errors of link if it can't be used on this file system or for this file."""

Renameat2 = Callable[[int, bytes, int, bytes, int], int]


def _find_renameat2() -> Renameat2 | None:
    function = getattr(ctypes.CDLL(None, use_errno=True), "renameat2", None)
    if function is None:  # an older C library
        return None
    function.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)
    function.restype = ctypes.c_int
    found: Renameat2 = function
    return found


_renameat2 = _find_renameat2()


def rename_noreplace(source: int, name: str, target: int, new_name: str) -> None:
    """Move `name` in the open directory `source` to `new_name` in `target`.

    Raise FileExistsError if anything is there, and OSError for other failures (EXDEV for another file system).
    """
    if _renameat2 is not None:
        if _renameat2(source, encoded(name), target, encoded(new_name), _NOREPLACE) == 0:
            return
        number = ctypes.get_errno()
        if number not in _LACKING:
            raise OSError(number, os.strerror(number))
    try:
        os.link(encoded(name), encoded(new_name), src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
    except OSError as error:
        if error.errno not in NO_HARD_LINKS:
            raise
    else:
        failpoints.reach("rename.linked")
        os.unlink(encoded(name), dir_fd=source)
        return
    # Directories have no hard links, and some file systems have none at all. Remaining race: a file that a person
    # creates at this path between the next two lines is replaced. A directory is replaced only if it is empty.
    if status(target, new_name) is not None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))
    os.rename(encoded(name), encoded(new_name), src_dir_fd=source, dst_dir_fd=target)
