"""Temporary files on the data root's file system: written, hashed and synced before they are published.

An anonymous temporary exists as long as its `Staged`. A named one outlives the process, so that a large transfer
resumes at its journalled length; the caller chooses the name, and temporaries without a journal entry are removed at
start. Each `Staged` has one open file until it is published or closed: callers must bound their number.
"""

import hashlib
import os
import re
import secrets
import stat
from collections.abc import Collection, Sequence
from contextlib import suppress
from itertools import count
from types import TracebackType
from typing import Final, Self

from harvestd.convention.paths import encoded
from harvestd.errors import HaltedForSafety
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.sync import begin_writing, sync_together
from harvestd.store.walking import CHUNK, copy_piece, names_in, open_regular, status, write_all

_NAME: Final = re.compile(r"[a-z0-9-]{1,128}", re.ASCII)
_ANONYMOUS: Final = "."
"""Prefix of an anonymous temporary's name, which names chosen by callers can't have."""


_NEW: Final = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAKING: Final = translating("can't make a temporary")
_WRITING: Final = translating("can't write a temporary")
_SYNCING: Final = translating("can't sync a temporary")


class Staged:
    """One temporary file, with its size and SHA-256 available at any time.

    As a context manager it is closed at the end, which removes it if it is anonymous and was not published.
    """

    __slots__ = ("_directory", "_doomed", "_file", "_gone", "_hash", "_synced", "name", "remark", "size")

    def __init__(self, directory: int, name: str, file: int) -> None:
        self.name: Final = name
        self.size = 0
        """Bytes written so far."""
        self.remark = ""
        """The defect of its content if it is to be published nevertheless."""
        self._directory = directory
        self._file = file
        self._hash = hashlib.sha256()
        self._synced = False
        self._doomed = False
        self._gone = False

    @property
    def hexdigest(self) -> str:
        """The SHA-256 of the bytes written so far."""
        return self._hash.hexdigest()

    @property
    def closed(self) -> bool:
        """Whether the temporary was closed, and so was moved, removed or left for later."""
        return self._file < 0

    def read(self, start: int, length: int) -> bytes:
        """Return up to `length` of the bytes written so far, from `start` on. Raise `HaltedForSafety` on failure."""
        with translating("can't read a temporary"):
            return os.pread(self._file, max(0, min(length, self.size - start)), start)

    def status(self) -> os.stat_result:
        """Return the fstat result of the temporary."""
        return os.fstat(self._file)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append `data`. Raise `DiskFull`, `HaltedForSafety`, or `Refused` if the file would be too large.

        Size and hash cover the written bytes, also after an error.
        """
        try:
            with _WRITING:
                for piece in write_all(self._file, data, self.size):
                    self._hash.update(piece)
                    self.size += len(piece)
        finally:
            # Set last: a `sync_beside` that began before this write does not cover all of it.
            self._synced = False

    def copy(self, source: int, end: int) -> None:
        """Append the bytes of the open file `source` from this file's end up to `end`; raise errors as `write` does.

        If `source` is shorter, fewer bytes are appended.
        """
        at = self.size
        try:
            with _WRITING:
                while at < end and (taken := copy_piece(source, self._file, at, end - at)):
                    at += taken
        finally:
            self._synced = False
        self.take_in(at)

    def put(self, data: bytes | bytearray | memoryview, start: int) -> None:
        """Write `data` beyond the end, at `start`; `take_in` must count it later. Raise errors as `write` does.

        Several threads may put at once at different places, in parallel to one that writes or takes in.
        """
        try:
            with _WRITING:
                for piece in write_all(self._file, data, start):
                    start += len(piece)
        finally:
            self._synced = False

    def take_in(self, end: int) -> None:
        """Count bytes that were put from the end up to `end`, without a gap, as written. Raise `HaltedForSafety`."""
        with translating("can't read a temporary"):
            while self.size < end:
                piece = os.pread(self._file, min(CHUNK, end - self.size), self.size)
                if not piece:
                    raise HaltedForSafety("a temporary became shorter while it was read")
                self._hash.update(piece)
                self.size += len(piece)

    def sync(self) -> None:
        """Write everything to disk; raise `HaltedForSafety` on failure, which removes the temporary.

        After a failed fsync, the kernel may report success for the next one although the bytes are lost, so it is never
        retried.
        """
        if self._synced and not self._doomed:
            return
        try:
            self._write_out()
        except HaltedForSafety:
            self.discard()
            raise

    def sync_beside(self) -> int:
        """Write to disk while other threads continue to write; return the size that is surely on disk. Raise as `sync`.

        The file is not closed, since other threads write to it: after a failure `sync` fails too, and removes it.
        """
        size = self.size
        if not self._synced or self._doomed:
            self._write_out()
        return size

    def _write_out(self) -> None:
        if self._doomed:
            raise HaltedForSafety("a temporary could not be synced before")
        self._doomed = True
        self._synced = True  # set first: a parallel write is not covered, and resets it
        with _SYNCING:
            os.fsync(self._file)
        self._doomed = False

    def begin_sync(self) -> None:
        """Make the kernel start writing to disk, without waiting for it; `sync` is still needed."""
        begin_writing(self._file)

    def take_over(self, length: int) -> None:
        """Truncate the file to `length` bytes and count them as written; for `Staging.resume` only."""
        with translating("can't resume a temporary"):
            os.ftruncate(self._file, length)
        self.take_in(length)

    def moved(self) -> None:
        """Close the file after its name was moved to its final path: there is nothing to remove."""
        self._gone = True
        self._close()

    def discard(self) -> None:
        """Close the file and remove it; a temporary that was moved to its final path stays there."""
        self._close()
        if not self._gone:
            _remove(self._directory, self.name)
            self._gone = True

    def close(self) -> None:
        """Close the file; a named temporary stays for `Staging.resume`, an anonymous one is removed."""
        if self.name.startswith(_ANONYMOUS):
            self.discard()
        else:
            self._close()

    def _close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def sync_staged(temporaries: Sequence[Staged]) -> None:
    """Write all of them to disk, sharing the cost of syncing; raise errors as `Staged.sync` does."""
    sync_together(temporaries, _sync, _begin)


def _sync(temporaries: Sequence[Staged]) -> None:
    for each in temporaries:
        each.sync()


def _begin(temporaries: Sequence[Staged]) -> None:
    for each in temporaries:
        each.begin_sync()


class Staging:
    """The directory of temporaries, by its open descriptor, which the caller must close."""

    def __init__(self, directory: int) -> None:
        self.directory: Final = directory
        # A random prefix and a counter: collisions between processes are improbable, and O_EXCL detects them.
        self._series = _ANONYMOUS + secrets.token_hex(8) + "-"
        self._numbers = count(1)

    def create(self, name: str | None = None) -> Staged:
        """Make an empty temporary, a named one if `name` ([a-z0-9-], up to 128) is given.

        Raise `Conflict` if a temporary of that name exists, `DiskFull` and `HaltedForSafety`.
        """
        chosen = self._series + str(next(self._numbers)) if name is None else _checked(name)
        try:
            with _MAKING:
                # O_EXCL creates a regular file or fails, so no check is needed afterwards.
                file = os.open(chosen, _NEW, 0o666, dir_fd=self.directory)
        except Refused as error:
            # The name is always valid, so the data root rejects all names.
            raise HaltedForSafety(str(error), hint="check the permissions of .harvestd in the data root") from error
        return Staged(self.directory, chosen, file)

    def whole(self, data: bytes | bytearray | memoryview) -> Staged:
        """Make an anonymous temporary with content `data`; raise as `create` and `Staged.write` do, leaving no file.

        It is written and hashed, not synced.
        """
        staged = self.create()
        try:
            staged.write(data)
        except BaseException:
            staged.discard()
            raise
        return staged

    def resume(self, name: str, length: int) -> Staged | None:
        """Open the temporary called `name` again with its first `length` bytes; None if it can't be resumed.

        `length` is the journalled length of synced bytes; later bytes are cut off. A temporary that is shorter, or is
        not a regular file with a single name, is removed, so that `create` can start over. Raise `HaltedForSafety` on
        failure.
        """
        try:
            with translating("can't resume a temporary"):
                file = open_regular(self.directory, _checked(name), os.O_RDWR)
        except FileNotFoundError:
            return None
        except Conflict:
            self.discard(name)
            return None
        staged = Staged(self.directory, name, file)
        found = os.fstat(file)
        if found.st_nlink != 1 or found.st_size < length:
            staged.discard()
            return None
        try:
            staged.take_over(length)
        except HaltedForSafety:
            staged.close()
            raise
        return staged

    def rename(self, old: str, new: str) -> None:
        """Rename the named temporary `old`, which must not be open, to `new`; do nothing if it is absent.

        Raise `HaltedForSafety` on failure.
        """
        with suppress(FileNotFoundError), translating("can't rename a temporary"):
            os.rename(_checked(old), _checked(new), src_dir_fd=self.directory, dst_dir_fd=self.directory)

    def discard(self, name: str) -> None:
        """Remove the temporary called `name`, which must not be open; do nothing if it is absent."""
        _remove(self.directory, _checked(name))

    def names(self) -> tuple[str, ...]:
        """Return the names of the named temporaries, sorted."""
        return tuple(name for name in names_in(self.directory) if _NAME.fullmatch(name))

    def clean(self, keep: Collection[str]) -> tuple[str, ...]:
        """Remove every temporary not in `keep` and return their names; for the start, while holding the lock.

        A directory is never a temporary, so it stays.
        """
        removed = [name for name in names_in(self.directory) if name not in keep and not self._is_directory(name)]
        for name in removed:
            _remove(self.directory, name)
        return tuple(removed)

    def _is_directory(self, name: str) -> bool:
        found = status(self.directory, name)
        return found is not None and stat.S_ISDIR(found.st_mode)


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise ValueError("a temporary's name has 1 to 128 characters of a-z, 0-9 and -")
    return name


def _remove(directory: int, name: str) -> None:
    try:
        with translating("can't remove a temporary"):
            os.unlink(encoded(name), dir_fd=directory)
    except FileNotFoundError:
        pass
