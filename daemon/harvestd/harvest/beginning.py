"""A few at a time: hosts whose first look, and what it brings, are under way.

The first look at a host shows the most there ever is, and when a daemon starts, or a network comes back, all hosts are
new at once. Served side by side they would all be done at the end, and all that each shows and sends would be held till
then; one after the other most are done early. Who takes long leaves its turn to the next and goes on beside it.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final

import anyio

_AT_ONCE: Final = 8
"""Enough to keep one processor busy with boxes that are a long way off."""
_LONGEST: Final = 2.0
"""Seconds: a hundred slow boxes have all begun within half a minute."""


class Beginning:
    """Gives turns in the order in which they are asked for."""

    def __init__(self, at_once: int = _AT_ONCE, longest: float = _LONGEST) -> None:
        self._free = anyio.Semaphore(at_once)
        self._longest = longest

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn; it is over with the body, or earlier, where that takes long."""
        await self._free.acquire()
        given_back = False

        def give_back() -> None:
            nonlocal given_back
            if not given_back:
                given_back = True
                self._free.release()

        timer = asyncio.get_running_loop().call_later(self._longest, give_back)
        try:
            yield
        finally:
            timer.cancel()
            give_back()
