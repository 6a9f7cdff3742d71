"""Locks by key: work on one key is done one after the other, work on different keys side by side."""

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

import anyio


class _Counted:
    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.users = 0


class KeyedLocks:
    """One lock for each key that is in use; a key without users costs nothing."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, _Counted] = {}

    @asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncIterator[None]:
        """Hold the lock of `key` during the body. The same task must not ask for it twice."""
        counted = self._locks.setdefault(key, _Counted())
        counted.users += 1
        try:
            async with counted.lock:
                yield
        finally:
            counted.users -= 1
            if not counted.users:
                del self._locks[key]
