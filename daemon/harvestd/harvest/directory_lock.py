"""Reader-writer lock: publishing files is shared, renaming a directory is exclusive."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class DirectoryLock:
    """Keeps directories from being renamed while files are published into them. Not reentrant."""

    def __init__(self) -> None:
        self._mover = anyio.Lock()
        self._working = 0
        self._still = anyio.Event()
        self._still.set()
        self._idle = anyio.Event()

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """Hold the lock shared: no directory is renamed during the body."""
        while not self._still.is_set():
            await self._still.wait()
        self._working += 1
        try:
            yield
        finally:
            self._working -= 1
            self._idle.set()

    @asynccontextmanager
    async def moving(self) -> AsyncIterator[None]:
        """Hold the lock exclusively: nothing is published during the body. Waits for all shared holders."""
        async with self._mover:
            self._still = anyio.Event()
            try:
                while self._working:
                    self._idle = anyio.Event()
                    await self._idle.wait()
                yield
            finally:
                self._still.set()
