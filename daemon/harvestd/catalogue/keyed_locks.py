"""Locks by key: work on one key is serialised, work on different keys runs in parallel."""

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

import anyio


class _Counted:
    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.users = 0


class KeyedLocks:
    """One lock for each key in use; a key without users takes no memory."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, _Counted] = {}

    @asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncIterator[None]:
        """Hold the lock of `key` during the body. It is not reentrant."""
        counted = self._locks.setdefault(key, _Counted())
        counted.users += 1
        try:
            async with counted.lock:
                yield
        finally:
            counted.users -= 1
            if not counted.users:
                del self._locks[key]
