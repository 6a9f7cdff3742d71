"""The data root: the directory that everything is filed under, held by an open descriptor, not by a string.

`DataRoot.open` proves before any work that this is the right directory and that it can be written; afterwards a path
below it is a `LocalPath` and nothing else. It must never follow a link below the root, and never lock: `lock` does.
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
from harvestd.store.walking import Touched, Way, made, names_in, open_regular, opened, sha256_of, status, sync_touched


class DataRoot:
    """One open data root. Made by `open`; a context manager that closes its descriptors, and nothing else."""

    def __init__(self, path: Path, held: Opened, descriptors: ExitStack) -> None:
        self.path = path
        """Where it was opened, for people and for messages; never joined and opened."""
        self.id = held.sentinel.id
        """The sentinel's UUID, which the catalogue remembers."""
        self.own = held.own
        """The descriptor of `.harvestd`; for this package only."""
        self.versions = held.versions
        """The descriptor of `.harvestd/versions`; for this package only."""
        self.staging = Staging(held.staging)
        self._root = held.root
        self._descriptors = descriptors

    @classmethod
    def open(cls, path: Path, *, create: bool = True, expected_id: str | None = None) -> Self:
        """Open the data root at `path`, making it and `.harvestd` where they are missing.

        `expected_id` is the sentinel that the catalogue remembers: where another one or none stands there, nothing is
        made. Without `create` only the directory `path` itself must exist. Raises `Fatal` with a hint for anything that
        the operator must settle first, `DiskFull` where not even an empty file has room.
        """
        with ExitStack() as descriptors:
            held = open_data_root(path, descriptors, create=create and expected_id is None, expected_id=expected_id)
            return cls(path, held, descriptors.pop_all())

    def close(self) -> None:
        """Close the descriptors; the object is of no use after that."""
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

        Raises FileNotFoundError where there is none, `Conflict` where a link or a file stands on the way.
        """
        with self._translating(path), opened(self._root, path.parts if path else ()) as directory:
            yield directory

    @contextmanager
    def parent(self, path: LocalPath) -> Iterator[int]:
        """Provide a descriptor of the directory that `path` is in; raises as `directory` does."""
        with self._translating(path), opened(self._root, path.parts[:-1]) as directory:
            yield directory

    @contextmanager
    def made_parent(self, path: LocalPath, touched: Touched) -> Iterator[int]:
        """As `parent`, making missing directories; what changes is added to `touched`, for `sync`."""
        with self._translating(path), made(self._root, path.parts[:-1], touched) as directory:
            yield directory

    def way(self) -> Way:
        """Return a way from the root to directories below it, to be closed by the caller; its errors are `OSError`s."""
        return Way(self._root)

    def sync(self, touched: Touched) -> None:
        """Write the entries of the directories in `touched` to disk, each once; raises `HaltedForSafety`."""
        with translating("can't sync a directory of the data root"):
            sync_touched(self._root, touched)

    def stat(self, path: LocalPath) -> os.stat_result | None:
        """Return what lstat says of `path`; None where nothing stands. Raises `Conflict` for a link on the way."""
        try:
            with self.parent(path) as directory:
                return status(directory, path.name)
        except FileNotFoundError:
            return None

    def times(self) -> tuple[int, int]:
        """Return the data root's own times (modified, changed; nanoseconds): they differ once a name in it does."""
        with self.directory(None) as directory:
            answer = os.fstat(directory)
        return answer.st_mtime_ns, answer.st_ctime_ns

    def listing(self, path: LocalPath | None) -> Mapping[str, os.stat_result]:
        """Return lstat's answer for each name in a directory, sorted, without harvestd's own; raises as `directory`."""
        with self.directory(path) as directory:
            found = {name: status(directory, name) for name in names_in(directory)}
        if path is None:
            found.pop(RESERVED, None)
        return {name: answer for name, answer in found.items() if answer is not None}

    @contextmanager
    def reading(self, path: LocalPath) -> Iterator[BufferedReader]:
        """Provide the regular file at `path`, open for reading.

        Raises FileNotFoundError where there is none, `Conflict` for a link or what is no regular file. What the body
        raises passes as it is: the caller's own OSError must not be taken for the disk's.
        """
        with self.parent(path) as directory:
            file = open_regular(directory, path.name)
        with os.fdopen(file, "rb") as reader:
            yield reader

    def read(self, path: LocalPath, limit: int) -> bytes:
        """Return the file's content; raises as `reading` does, and `Damaged` where it has more than `limit` bytes."""
        with self._translating(path), self.reading(path) as file:
            content = file.read(limit + 1)
        if len(content) > limit:
            raise Damaged(f"{shown(path)} has more than {limit} bytes")
        return content

    def sha256(self, path: LocalPath) -> str:
        """Return the SHA-256 of the file's content in hex; raises as `reading` does."""
        with self._translating(path), self.reading(path) as file:
            return sha256_of(file)

    def free_bytes(self) -> int:
        """Return the bytes that this process may still write on the data root's file system."""
        with translating("can't ask for the data root's free space"):
            answer = os.fstatvfs(self._root)
        return answer.f_bavail * answer.f_frsize

    def stage(self, name: str | None = None) -> Staged:
        """Make an empty temporary; see `Staging.create`."""
        return self.staging.create(name)

    def stage_whole(self, data: bytes | bytearray | memoryview) -> Staged:
        """Make an anonymous temporary that holds `data`; see `Staging.whole`."""
        return self.staging.whole(data)

    def resume(self, name: str, length: int) -> Staged | None:
        """Open a named temporary again; see `Staging.resume`."""
        return self.staging.resume(name, length)

    def staged_names(self) -> tuple[str, ...]:
        """Return the names of the lasting temporaries; see `Staging.names`."""
        return self.staging.names()

    def clean_staging(self, keep: Collection[str]) -> tuple[str, ...]:
        """Remove the temporaries that the journal doesn't know; see `Staging.clean`."""
        return self.staging.clean(keep)

    @staticmethod
    def _translating(path: LocalPath | None) -> Translating:
        return translating(path or "the data root")
