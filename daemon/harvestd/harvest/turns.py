"""One at a time, by storage: boxes that show the same file system must not harvest the same files side by side."""

import anyio


class Turns:
    """A lock for each storage, made when it is first asked for."""

    def __init__(self) -> None:
        self._locks: dict[str, anyio.Lock] = {}

    def of(self, storage: str) -> anyio.Lock:
        """Give the lock of one storage; who waits for it is served in turn."""
        return self._locks.setdefault(storage, anyio.Lock())
