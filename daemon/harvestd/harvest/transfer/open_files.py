"""The growing files of one host that stay open between scans, so that their running hashes need no second reading.

If the operator moved, replaced or deleted such a file, writing to the open one would be lost: the path is opened again.
"""

from collections.abc import Sequence

import anyio.to_thread

from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.completeness import whole_records
from harvestd.convention.structs import Immutable
from harvestd.harvest.budgets import Descriptors
from harvestd.planning.records import FileRecord
from harvestd.store.errors import Conflict, Damaged
from harvestd.store.growing import GrowingFile
from harvestd.store.root import DataRoot
from harvestd.store.versions import begin_anew, is_kept

OPEN_FILES = 32
"""The most open files for one host, if there are enough descriptors."""


class _Held(Immutable):
    growing: GrowingFile
    inode: int
    """Compared with the inode at its path, to detect that the file was moved or replaced."""


class OpenFiles:
    """Opens, keeps and closes growing files; the least recently used one is closed to make room for another."""

    def __init__(self, root: DataRoot, descriptors: Descriptors) -> None:
        self._root = root
        self._descriptors = descriptors
        self._held: dict[LocalPath, _Held] = {}
        self._allowed = 0
        """The number of files that may be open at once; as many descriptors are reserved."""

    def allowed(self, wanted: int) -> int:
        """Return how many of `wanted` files may be open at once from now on: one at least."""
        others = self._descriptors.open_logs - self._allowed
        allowed = min(OPEN_FILES, max(wanted, self._allowed), max(1, self._descriptors.most_logs - others))
        self._descriptors.open_logs = others + allowed
        self._allowed = allowed
        while len(self._held) > allowed:
            self.close(next(iter(self._held)))
        return allowed

    async def at(self, path: LocalPath, known: FileRecord | None) -> GrowingFile:
        """Return the file at `path` with its recorded content; without a record, with the content that it has.

        Raise `Damaged` if the content is not the recorded one, `Conflict` if it is not a regular file, `Refused` and
        `HaltedForSafety`. A file without a record, which was not published by us, is not changed by this.
        """
        held = self._held.get(path)
        if held is not None and not await anyio.to_thread.run_sync(self._is_in_place, path, held):
            self.close(path)
            held = None
        if held is None:
            while len(self._held) >= max(1, self._allowed):
                self.close(next(iter(self._held)))
            held = await anyio.to_thread.run_sync(self._opened, path, known)
        self._held.pop(path, None)
        self._held[path] = held
        return held.growing

    async def absent(self, paths: Sequence[LocalPath]) -> frozenset[LocalPath]:
        """Return those of `paths` at which nothing is."""
        candidates = [path for path in paths if path not in self._held]
        if not candidates:
            return frozenset()
        return await anyio.to_thread.run_sync(self._absent, candidates)

    async def anew(self, path: LocalPath) -> GrowingFile:
        """Keep the file at `path` as a version and return a new, empty file.

        Raise as `at` does, but never `Damaged`.
        """
        self.close(path)
        self._held[path] = await anyio.to_thread.run_sync(self._restarted, path)
        return self._held[path].growing

    async def ends_whole(self, path: LocalPath, length: int) -> bool:
        """Return whether all records in the first `length` bytes of a TensorBoard file are complete."""
        content = await anyio.to_thread.run_sync(self._root.read, path, length)
        return whole_records(content) == length

    def close(self, path: LocalPath) -> None:
        """Close one file, so that it is opened again with its recorded content."""
        held = self._held.pop(path, None)
        if held is not None:
            held.growing.close()

    def close_all(self) -> None:
        """Close all files, and release their descriptors to other hosts."""
        for path in list(self._held):
            self.close(path)
        self._descriptors.open_logs -= self._allowed
        self._allowed = 0

    def _absent(self, paths: Sequence[LocalPath]) -> frozenset[LocalPath]:
        def is_absent(path: LocalPath) -> bool:
            try:
                return self._root.stat(path) is None
            except Conflict:
                return False

        return frozenset(filter(is_absent, paths))

    def _is_in_place(self, path: LocalPath, held: _Held) -> bool:
        found = self._root.stat(path)
        return found is not None and found.st_ino == held.inode

    def _opened(self, path: LocalPath, known: FileRecord | None) -> _Held:
        if is_kept(self._root, path):
            raise Damaged("it was to begin anew when a process ended")
        if known is None:
            found = self._root.stat(path)
            length = found.st_size if found is not None else 0
            return self._with_inode(GrowingFile.open(self._root, path, length))
        growing = GrowingFile.open(self._root, path, known.size)
        if growing.hexdigest() != known.sha256:
            growing.close()
            raise Damaged("it was changed here")
        return self._with_inode(growing)

    def _restarted(self, path: LocalPath) -> _Held:
        begin_anew(self._root, path)
        return self._with_inode(GrowingFile.create(self._root, path))

    def _with_inode(self, growing: GrowingFile) -> _Held:
        found = self._root.stat(growing.path)
        return _Held(growing, found.st_ino if found else 0)
