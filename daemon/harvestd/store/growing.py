"""Files that are appended to where they stand, so that `tail -f` and TensorBoard follow them live.

A growing file is at every moment a prefix of its source (I1). What the journal doesn't know was written by a process
that died and is cut off when the file is opened again; an append that fails half-way is cut off at once. It must never
be renamed while it grows, and a source that was truncated or replaced starts a new file (`versions.begin_anew`).
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

    It holds one descriptor. A directory that a person moves takes the file along, and it goes on growing there.
    """

    def __init__(self, root: DataRoot, path: LocalPath, file: int, length: int, touched: Touched) -> None:
        self.path: Final = path
        self.length = length
        """Bytes that stand in the file and are hashed."""
        self._root = root
        self._touched = touched
        self._file = file
        self._hash = hashlib.sha256()
        for piece in self._pieces(0, length):
            self._hash.update(piece)

    @classmethod
    def create(cls, root: DataRoot, path: LocalPath) -> Self:
        """Start a file that the catalogue doesn't know yet, empty.

        An empty file that stands there is taken. Raises `Conflict` for anything else there, `Refused`, `DiskFull`.
        """
        with _opened(root, path, os.O_RDWR | os.O_CREAT) as (file, touched):
            if os.fstat(file).st_size:
                raise Conflict(f"{shown(path)}: a file stands there that harvestd did not file")
            return cls(root, path, file, 0, touched)

    @classmethod
    def open(cls, root: DataRoot, path: LocalPath, journalled: int) -> Self:
        """Open a file of ours at the length that the journal knows; what follows is cut off, and kept as a version.

        It may be what a process wrote that died, or what a person added. An absent file is made where `journalled` is
        0. Raises `Damaged` where it is shorter or absent (the caller starts a new version), `Conflict` for what is no
        plain file with one name, `Refused`, `DiskFull`.
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
        """Write `data` at the end: all of it or, with an error raised, nothing.

        Raises `Damaged` where somebody else changed the length, `DiskFull`, `HaltedForSafety`.
        """
        found = os.fstat(self._file).st_size
        if found != self.length:
            raise Damaged(f"{shown(self.path)} has {found} bytes, {self.length} were written")
        with translating(f"can't append to {shown(self.path)}"):
            try:
                written = sum(len(piece) for piece in write_all(self._file, data, self.length))
            except OSError:
                # A torn line would stay visible until there is room again.
                os.ftruncate(self._file, self.length)
                raise
        self._hash.update(data)
        self.length += written
        failpoints.reach("growing.appended")

    def sync(self) -> None:
        """Write everything to disk, the file's name too; raises `HaltedForSafety`, and then it must be reopened.

        After that error the caller closes the file and opens it again at the journalled length.
        """
        with translating(f"can't sync {shown(self.path)}"):
            os.fdatasync(self._file)
        if self._touched:
            self._root.sync(self._touched)
        failpoints.reach("growing.synced")

    def hash_range(self, start: int, end: int) -> str:
        """Return the SHA-256 of the bytes from `start` up to `end`; raises `Damaged` where they are not all here."""
        found = hashlib.sha256()
        for piece in self._pieces(start, end):
            found.update(piece)
        return found.hexdigest()

    def hexdigest(self) -> str:
        """Return the SHA-256 of the whole file, as it was read on opening and appended since."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Close the file; what was not synced is not promised."""
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
    """Provide the open file and the directories that are not synced; an error of the body closes the file."""
    touched: Touched = {path.parts[:-1]}
    with root.made_parent(path, touched) as parent, ExitStack() as undo:
        file = open_regular(parent, path.name, flags)
        undo.callback(os.close, file)
        if os.fstat(file).st_nlink != 1:
            # Appending would change the content under the other name too, wherever that is.
            raise Conflict(f"{shown(path)} has a second name (a hard link)", hint="put a copy of its own there")
        yield file, touched
        undo.pop_all()
