"""The data root: the directory of all results, held by an open descriptor instead of a path.

`DataRoot.open` checks before any work that this is the right directory and that it can be written; afterwards a path
below it is always a `LocalPath`. It never follows a link below the root, and does not lock: `lock` does.
"""

import os
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from io import BufferedReader
from pathlib import Path
from types import TracebackType
from typing import Self

from harvestd.convention.paths import RESERVED, LocalPath
from harvestd.store.checks import Opened, open_data_root
from harvestd.store.errors import Damaged, Translating, shown, translating
from harvestd.store.staging import Staged, Staging
from harvestd.store.walking import (
    DirectoryWalker,
    Touched,
    made,
    names_in,
    open_regular,
    opened,
    sha256_of,
    status,
    sync_touched,
)


class DataRoot:
    """One open data root. Made by `open`; a context manager that closes its descriptors only."""

    def __init__(self, path: Path, held: Opened, descriptors: ExitStack) -> None:
        self.path = path
        """The path with which it was opened, for messages; never joined and opened."""
        self.id = held.sentinel.id
        """The sentinel's UUID, which the catalogue records."""
        self.own = held.own
        """The descriptor of `.harvestd`; for this package only."""
        self.versions = held.versions
        """The descriptor of `.harvestd/versions`; for this package only."""
        self.staging = Staging(held.staging)
        self._root = held.root
        self._descriptors = descriptors

    @classmethod
    def open(cls, path: Path, *, create: bool = True, expected_id: str | None = None) -> Self:
        """Open the data root at `path`, creating it and `.harvestd` if they are missing.

        `expected_id` is the sentinel's id in the catalogue: if there is another one or none, nothing is created.
        Without `create`, only the directory `path` itself must exist. Raise `Fatal` with a hint for anything that the
        operator must fix first, `DiskFull` if there is not even space for an empty file.
        """
        with ExitStack() as descriptors:
            held = open_data_root(path, descriptors, create=create and expected_id is None, expected_id=expected_id)
            return cls(path, held, descriptors.pop_all())

    def close(self) -> None:
        """Close the descriptors; the object can't be used afterwards."""
        self._descriptors.close()
        self._root = self.own = self.versions = -1  # a later use fails, even if the numbers are given anew
        self.staging = Staging(-1)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @contextmanager
    def directory(self, path: LocalPath | None) -> Iterator[int]:
        """Provide a descriptor of the directory at `path` (None: the root), for the body.

        Raise FileNotFoundError if there is none, `Conflict` if a link or a file is on the way.
        """
        with self._translating(path), opened(self._root, path.parts if path else ()) as directory:
            yield directory

    @contextmanager
    def parent(self, path: LocalPath) -> Iterator[int]:
        """Provide a descriptor of the parent directory of `path`; raise errors as `directory` does."""
        with self._translating(path), opened(self._root, path.parts[:-1]) as directory:
            yield directory

    @contextmanager
    def made_parent(self, path: LocalPath, touched: Touched) -> Iterator[int]:
        """Provide a descriptor as `parent` does, creating directories; changed ones are added to `touched`."""
        with self._translating(path), made(self._root, path.parts[:-1], touched) as directory:
            yield directory

    def walker(self) -> DirectoryWalker:
        """Return a walker from the root to directories below it, which the caller closes; its errors are `OSError`s."""
        return DirectoryWalker(self._root)

    def sync(self, touched: Touched) -> None:
        """Sync the directories in `touched`, each once; raise `HaltedForSafety` if that fails."""
        with translating("can't sync a directory of the data root"):
            sync_touched(self._root, touched)

    def stat(self, path: LocalPath) -> os.stat_result | None:
        """Return the lstat result for `path`; None if nothing is there. Raise `Conflict` for a link on the way."""
        try:
            with self.parent(path) as directory:
                return status(directory, path.name)
        except FileNotFoundError:
            return None

    def times(self) -> tuple[int, int]:
        """Return the data root's times (modified, changed; nanoseconds), which change when a name in it does."""
        with self.directory(None) as directory:
            answer = os.fstat(directory)
        return answer.st_mtime_ns, answer.st_ctime_ns

    def listing(self, path: LocalPath | None) -> Mapping[str, os.stat_result]:
        """Return the lstat results by name in a directory, sorted, without `.harvestd`; raise errors as `directory`."""
        with self.directory(path) as directory:
            found = {name: status(directory, name) for name in names_in(directory)}
        if path is None:
            found.pop(RESERVED, None)
        return {name: answer for name, answer in found.items() if answer is not None}

    @contextmanager
    def reading(self, path: LocalPath) -> Iterator[BufferedReader]:
        """Provide the regular file at `path`, open for reading.

        Raise FileNotFoundError if there is none, `Conflict` for a link or another non-regular file. Exceptions of the
        body pass unchanged: the caller's own OSError must not be attributed to the disk.
        """
        with self.parent(path) as directory:
            file = open_regular(directory, path.name)
        with os.fdopen(file, "rb") as reader:
            yield reader

    def read(self, path: LocalPath, limit: int) -> bytes:
        """Return the file's content; raise errors as `reading` does, and `Damaged` if it exceeds `limit` bytes."""
        with self._translating(path), self.reading(path) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise Damaged(f"{shown(path)} has more than {limit} bytes")
        return content

    def sha256(self, path: LocalPath) -> str:
        """Return the SHA-256 of the file's content in hex; raise errors as `reading` does."""
        with self._translating(path), self.reading(path) as file:
            return sha256_of(file)

    def free_bytes(self) -> int:
        """Return the bytes that this process may still write to the data root's file system."""
        with translating("can't ask for the data root's free space"):
            answer = os.fstatvfs(self._root)
        return answer.f_bavail * answer.f_frsize

    def stage(self, name: str | None = None) -> Staged:
        """Make an empty temporary; see `Staging.create`."""
        return self.staging.create(name)

    def stage_whole(self, data: bytes | bytearray | memoryview) -> Staged:
        """Make an anonymous temporary with content `data`; see `Staging.whole`."""
        return self.staging.whole(data)

    def resume(self, name: str, length: int) -> Staged | None:
        """Open a named temporary again; see `Staging.resume`."""
        return self.staging.resume(name, length)

    def staged_names(self) -> tuple[str, ...]:
        """Return the names of the named temporaries; see `Staging.names`."""
        return self.staging.names()

    def clean_staging(self, keep: Collection[str]) -> tuple[str, ...]:
        """Remove all temporaries except those in `keep`; see `Staging.clean`."""
        return self.staging.clean(keep)

    @staticmethod
    def _translating(path: LocalPath | None) -> Translating:
        return translating(path or "the data root")
