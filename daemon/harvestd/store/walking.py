"""Opens, reads and renames files by descriptor, one component at a time, never through a link.

With path strings, a directory could be swapped for a link between check and use. Here each component is opened relative
to the one before it with O_NOFOLLOW and O_DIRECTORY. Names are passed to the kernel as bytes, so the locale does not
matter. Errors are plain `OSError`; the callers convert them.

`Neighbours` reads many small files below the data root in sequence; each directory is opened once for all files in it.
A directory that is renamed meanwhile is still read through its open descriptor, so callers must prevent renames.

`rename_noreplace` replaces nothing. Linux's renameat2 with RENAME_NOREPLACE is one atomic step. If a file system lacks
it (NFS, exFAT), link and unlink refuse as reliably. Without hard links, only a check before the rename remains.
"""

import ctypes
import errno
import hashlib
import os
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from io import BufferedReader
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from harvestd import failpoints
from harvestd.convention.paths import decoded, encoded
from harvestd.store.errors import Conflict, Damaged, shown, translating
from harvestd.store.sync import sync_together

if TYPE_CHECKING:
    from harvestd.convention.paths import LocalPath
    from harvestd.store.root import DataRoot

Parts = tuple[str, ...]
"""A directory below some base, as components; the empty tuple is the base itself."""

Touched = set[Parts]
"""Directories below one base whose entries changed and are not synced yet."""

CHUNK: Final = 1 << 20
"""Bytes per read when a whole file is read."""

_NO_COPYING: Final = frozenset({errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP})
"""Errors of a file system that can't copy between files by itself."""
_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def open_component(base: int, name: str) -> int:
    """Open the directory called `name` in the directory `base`; the caller closes the descriptor.

    Raise FileNotFoundError if there is none, and NotADirectoryError for a link or any other file.
    """
    return os.open(encoded(name), _DIRECTORY, dir_fd=base)


class DirectoryWalker:
    """Open directories from a base down to one below it, reused so that a neighbour needs one step.

    It belongs to one thread, and has one descriptor for each level. If a person moves a directory while it is open,
    files put into it are moved along, as if the move had happened a moment later.
    """

    __slots__ = ("_base", "_handles", "_made", "_parts")

    def __init__(self, base: int) -> None:
        self._base = base
        self._parts: Parts = ()
        self._handles: list[int] = []
        self._made = False
        """Whether the last directory had to be created: then the next one below it is missing as well."""

    def opened(self, parts: Parts) -> int:
        """Return a descriptor of the directory `parts`, valid until the next call; raise as `open_component` does."""
        self._go_up(parts)
        for depth in range(len(self._parts), len(parts)):
            self._go_down(parts, depth, open_component(self._handles[-1], parts[depth]))
        return self._handles[-1]

    def made(self, parts: Parts, touched: Touched) -> int:
        """Return as `opened`, creating missing directories with the umask's mode; their parents go to `touched`."""
        self._go_up(parts)
        for depth in range(len(self._parts), len(parts)):
            above = self._handles[-1]
            below = None if self._made else _open_if_there(above, parts[depth])
            if below is None:
                self._made = _make(above, parts[depth])
                touched.add(parts[:depth])
                below = open_component(above, parts[depth])
            self._go_down(parts, depth, below)
        return self._handles[-1]

    def close(self) -> None:
        """Close all descriptors; the next call starts at the base again."""
        while self._handles:
            os.close(self._handles.pop())
        self._parts = ()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _go_up(self, parts: Parts) -> None:
        """Close the directories that are not on the way to `parts`."""
        if not self._handles:
            # A new open file even for the base itself: a duplicate would share its read position with other threads.
            self._handles.append(os.open(".", _DIRECTORY, dir_fd=self._base))
        while self._parts != parts[: len(self._parts)]:
            os.close(self._handles.pop())
            self._parts = self._parts[:-1]

    def _go_down(self, parts: Parts, depth: int, below: int) -> None:
        self._handles.append(below)
        self._parts = parts[: depth + 1]


@contextmanager
def opened(base: int, parts: Parts) -> Iterator[int]:
    """Provide a descriptor of the directory `parts` below `base`; raise errors as `open_component` does."""
    with DirectoryWalker(base) as walker:
        yield walker.opened(parts)


@contextmanager
def made(base: int, parts: Parts, touched: Touched) -> Iterator[int]:
    """Provide a descriptor as `opened` does, creating missing directories; see `DirectoryWalker.made`."""
    with DirectoryWalker(base) as walker:
        yield walker.made(parts, touched)


def _open_if_there(base: int, name: str) -> int | None:
    try:
        return open_component(base, name)
    except FileNotFoundError:
        return None


def _make(base: int, name: str) -> bool:
    """Create a directory if nothing is there; return whether it was created."""
    try:
        os.mkdir(encoded(name), dir_fd=base)
    except FileExistsError:
        # Another thread may have created it, which is fine: links are never followed.
        return False
    return True


def sync_directory(directory: int) -> None:
    """Write the entries of an open directory to disk."""
    try:
        os.fsync(directory)
    except OSError as error:
        # Some file systems (SMB, some FUSE) can't sync a directory and return EINVAL.
        if error.errno != errno.EINVAL:
            raise


def sync_touched(base: int, touched: Touched) -> None:
    """Sync each directory of `touched` once, and empty the set.

    A directory that is gone by now, or became a link, was moved or deleted by a person with its content, so there is
    nothing to sync.
    """
    sync_together(sorted(touched), partial(_sync, base))
    touched.clear()


def _sync(base: int, some: Sequence[Parts]) -> None:
    """Sync directories in sequence with a walker of their own, since other threads may sync others in parallel."""
    with DirectoryWalker(base) as walker:
        for parts in some:
            with suppress(FileNotFoundError, NotADirectoryError):
                sync_directory(walker.opened(parts))


def names_in(directory: int) -> Sequence[str]:
    """Return the sorted names in an open directory, undecodable bytes as lone surrogates."""
    return sorted(decoded(os.fsencode(name)) for name in os.listdir(directory))


def status(directory: int, name: str) -> os.stat_result | None:
    """Return the lstat result for `name` in an open directory; None if nothing is there."""
    try:
        return os.stat(encoded(name), dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None


def open_regular(directory: int, name: str, flags: int = os.O_RDONLY) -> int:
    """Open the regular file `name` in an open directory; the caller closes the descriptor.

    Raise `Conflict` for a link or another non-regular file; never wait for the other end of a FIFO.
    """
    try:
        file = os.open(encoded(name), flags | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, 0o666, dir_fd=directory)
    except OSError as error:
        if error.errno in {errno.ELOOP, errno.ENXIO, errno.EISDIR}:
            raise Conflict("something that is no regular file stands there") from error
        raise
    if not stat.S_ISREG(os.fstat(file).st_mode):
        os.close(file)
        raise Conflict("something that is no regular file stands there")
    return file


@contextmanager
def reading(directory: int, name: str) -> Iterator[BufferedReader]:
    """Provide the regular file `name` in an open directory for reading; raise errors as `open_regular` does."""
    with os.fdopen(open_regular(directory, name), "rb") as file:
        yield file


def sha256_of(file: BufferedReader) -> str:
    """Return the SHA-256 of an open file's whole content in hex."""
    file.seek(0)
    return hashlib.file_digest(file, "sha256").hexdigest()


def write_all(file: int, data: bytes | bytearray | memoryview, offset: int) -> Iterator[memoryview]:
    """Write `data` at `offset`, yielding each piece after the kernel has accepted it; short writes are continued."""
    rest = memoryview(data).cast("B")
    while rest:
        taken = os.pwrite(file, rest, offset)
        yield rest[:taken]
        rest = rest[taken:]
        offset += taken


def copy_piece(source: int, target: int, offset: int, length: int) -> int:
    """Copy up to `length` bytes between two open files, at the same offset; return how many, 0 at the source's end.

    The file system copies the bytes if it can, and both files may share the blocks.
    """
    try:
        return os.copy_file_range(source, target, length, offset, offset)
    except OSError as error:
        if error.errno not in _NO_COPYING:
            raise
    return sum(map(len, write_all(target, os.pread(source, min(CHUNK, length), offset), offset)))


_PIECE = 64 * 1024


class Neighbours:
    """Reader for one thread; a context manager with one descriptor for each level of the last file's path."""

    def __init__(self, root: "DataRoot") -> None:
        self._walker: DirectoryWalker = root.walker()

    def read(self, path: "LocalPath", limit: int) -> bytes:
        """Return the file's content; raise errors as `DataRoot.read` does."""
        with translating(path):
            file = open_regular(self._walker.opened(path.parts[:-1]), path.name)
            try:
                content = _up_to(file, limit + 1)
            finally:
                os.close(file)
        if len(content) > limit:
            raise Damaged(f"{shown(path)} has more than {limit} bytes")
        return content

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: "type[BaseException] | None", error: "BaseException | None", trace: "TracebackType | None"
    ) -> None:
        self._walker.close()


def _up_to(file: int, count: int) -> bytes:
    """Return up to `count` bytes, unbuffered: nearly all of these files are read in one piece."""
    pieces = []
    while count and (piece := os.read(file, min(count, _PIECE))):
        pieces.append(piece)
        count -= len(piece)
    return pieces[0] if len(pieces) == 1 else b"".join(pieces)


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


renameat2 = _find_renameat2()


def rename_noreplace(source: int, name: str, target: int, new_name: str) -> None:
    """Move `name` in the open directory `source` to `new_name` in `target`.

    Raise FileExistsError if anything is there, and OSError for other failures (EXDEV for another file system).
    """
    if renameat2 is not None:
        if renameat2(source, encoded(name), target, encoded(new_name), _NOREPLACE) == 0:
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
