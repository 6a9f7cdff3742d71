"""Files that are appended to in place, so that `tail -f` and TensorBoard can follow them.

A growing file is always a prefix of its source. Bytes beyond the journalled length were written by a process that
died and are cut off when the file is opened again; a failed append is cut off at once. A file must not be renamed while
it is open here, and a truncated or replaced source starts a new file (`versions.begin_anew`).
"""

import hashlib
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import Final, Self

from harvestd import failpoints
from harvestd.convention.paths import LocalPath
from harvestd.store.errors import Conflict, Damaged, shown, translating
from harvestd.store.root import DataRoot
from harvestd.store.versions import keep_copy
from harvestd.store.walking import CHUNK, Touched, open_regular, write_all


class GrowingFile:
    """One open growing file. Made by `create` or `open`; a context manager that closes it.

    It has one descriptor. If a person moves its directory, the file continues to grow in the new place.
    """

    def __init__(self, root: DataRoot, path: LocalPath, file: int, length: int, touched: Touched) -> None:
        self.path: Final = path
        self.length = length
        """Bytes that are written and hashed."""
        self._root = root
        self._touched = touched
        self._file = file
        self._hash = hashlib.sha256()
        for piece in self._pieces(0, length):
            self._hash.update(piece)

    @classmethod
    def create(cls, root: DataRoot, path: LocalPath) -> Self:
        """Create an empty file without a record in the catalogue.

        An existing empty file is used. Raise `Conflict` for anything else at the path, `Refused`, `DiskFull`.
        """
        with _opened(root, path, os.O_RDWR | os.O_CREAT) as (file, touched):
            if os.fstat(file).st_size:
                raise Conflict(f"{shown(path)}: a file stands there that harvestd did not file")
            return cls(root, path, file, 0, touched)

    @classmethod
    def open(cls, root: DataRoot, path: LocalPath, journalled: int) -> Self:
        """Open one of our files at its journalled length; bytes after it are kept as a version, then cut off.

        These bytes are from a process that died, or from a person. An absent file is created if `journalled` is 0.
        Raise `Damaged` if the file is shorter or absent (the caller starts a new version), `Conflict` if it is not a
        regular file with a single name, `Refused`, `DiskFull`.
        """
        flags = os.O_RDWR if journalled else os.O_RDWR | os.O_CREAT
        try:
            with _opened(root, path, flags) as (file, touched):
                found = os.fstat(file).st_size
                if found < journalled:
                    raise Damaged(f"{shown(path)} has {found} bytes, {journalled} were written")
                if found > journalled:
                    keep_copy(root, path, file)
                    failpoints.reach("growing.kept")
                    os.ftruncate(file, journalled)
                return cls(root, path, file, journalled, touched)
        except FileNotFoundError as error:
            raise Damaged(f"{shown(path)} is gone") from error

    def append(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`: all of it or, if an error is raised, nothing.

        Raise `Damaged` if something else changed the length, `DiskFull`, `HaltedForSafety`.
        """
        found = os.fstat(self._file).st_size
        if found != self.length:
            raise Damaged(f"{shown(self.path)} has {found} bytes, {self.length} were written")
        with translating(f"can't append to {shown(self.path)}"):
            try:
                written = sum(len(piece) for piece in write_all(self._file, data, self.length))
            except OSError:
                # Otherwise an incomplete line would stay visible until there is space again.
                os.ftruncate(self._file, self.length)
                raise
        self._hash.update(data)
        self.length += written
        failpoints.reach("growing.appended")

    def sync(self) -> None:
        """Write everything to disk, including the file's name; raise `HaltedForSafety` on failure.

        After an error the caller must close the file and open it again at the journalled length.
        """
        with translating(f"can't sync {shown(self.path)}"):
            os.fdatasync(self._file)
        if self._touched:
            self._root.sync(self._touched)
        failpoints.reach("growing.synced")

    def hash_range(self, start: int, end: int) -> str:
        """Return the SHA-256 of the bytes from `start` up to `end`; raise `Damaged` if some are missing."""
        found = hashlib.sha256()
        for piece in self._pieces(start, end):
            found.update(piece)
        return found.hexdigest()

    def hexdigest(self) -> str:
        """Return the SHA-256 of the whole file: of the bytes read on opening and those appended since."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file; unsynced bytes may be lost."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _pieces(self, start: int, end: int) -> Iterator[bytes]:
        with translating(f"can't read {shown(self.path)}"):
            while start < end:
                piece = os.pread(self._file, min(CHUNK, end - start), start)
                if not piece:
                    raise Damaged(f"{shown(self.path)} ends at {start}, {end} were written")
                yield piece
                start += len(piece)


@contextmanager
def _opened(root: DataRoot, path: LocalPath, flags: int) -> Iterator[tuple[int, Touched]]:
    """Provide the open file and the unsynced directories; an error of the body closes the file."""
    touched: Touched = {path.parts[:-1]}
    with root.made_parent(path, touched) as parent, ExitStack() as undo:
        file = open_regular(parent, path.name, flags)
        undo.callback(os.close, file)
        if os.fstat(file).st_nlink != 1:
            # Appending would also change the content under the other name.
            raise Conflict(f"{shown(path)} has a second name (a hard link)", hint="put a copy of its own there")
        yield file, touched
        undo.pop_all()
