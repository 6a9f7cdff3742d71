"""Who files and who moves: many may put files at their places at once, but not while a directory gets another name."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


class Places:
    """Keeps directories where they are while somebody works in them. The same task must not ask twice."""

    def __init__(self) -> None:
        self._mover = anyio.Lock()
        self._working = 0
        self._still = anyio.Event()
        self._still.set()
        self._idle = anyio.Event()

    @asynccontextmanager
    async def still(self) -> AsyncIterator[None]:
        """Let nothing be moved during the body."""
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
        """Let nobody file anything during the body; waits for those who do."""
        async with self._mover:
            self._still = anyio.Event()
            try:
                while self._working:
                    self._idle = anyio.Event()
                    await self._idle.wait()
                yield
            finally:
                self._still.set()
