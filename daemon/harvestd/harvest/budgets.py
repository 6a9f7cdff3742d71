"""What all hosts share: the memory of their buffers and the line's bandwidth."""

import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from msgspec import Struct, field

from harvestd.harvest.sync import Bell


class MemoryBudget:
    """Bytes that buffers may hold at once, over all hosts. Who asks for more waits, in turn."""

    def __init__(self, total: int) -> None:
        """`total` in bytes."""
        self.total = total
        self._held = 0
        self._waiting: deque[_Turn] = deque()

    def has(self, size: int) -> bool:
        """Return whether `take` would give `size` bytes at once."""
        return not self._waiting and self._fits(size)

    def _fits(self, size: int) -> bool:
        # What is larger than the whole is let in alone.
        return not size or not self._held or self._held + size <= self.total

    def resize(self, total: int) -> None:
        """Hold to another total from now on; what is held beyond it is not taken from anybody."""
        self.total = total
        self._serve()

    async def take(self, size: int) -> None:
        """Take `size` bytes; more than the whole budget is given while nobody holds any.

        Who holds some that it can give back does so first.
        """
        if self.has(size):
            self._held += size
            return
        turn = _Turn(size)
        self._waiting.append(turn)
        self._serve()
        try:
            await turn.come.wait()
        except BaseException:
            if turn.come.is_set():
                self._held -= turn.size
            else:
                self._waiting.remove(turn)
            self._serve()
            raise

    def give_back(self, size: int) -> None:
        """Return back what one `take` of `size` bytes gave."""
        self._held -= size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0].size):
            turn = self._waiting.popleft()
            self._held += turn.size
            turn.come.set()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes, as `take` gives them, for the length of the block."""
        await self.take(size)
        try:
            yield
        finally:
            self.give_back(size)


class _Turn(Struct, eq=False):
    size: int
    come: anyio.Event = field(default_factory=anyio.Event)


class Bandwidth:
    """A rate that all transfers share; without a rate it costs nothing."""

    def __init__(self, rate: int | None) -> None:
        """`rate` in bytes a second; None: unlimited."""
        self._rate = rate
        self._promised = 0.0
        """Bytes that were asked for, since the beginning."""
        self._promised_first = 0.0
        """Up to where those who go first have them."""
        self._granted = 0.0
        """Bytes that the rate had allowed when it was set."""
        self._since = time.monotonic()
        self._resized = Bell()

    def resize(self, rate: int | None) -> None:
        """Hold to another rate from now on, those who wait already too: each keeps its place among them."""
        if rate != self._rate:
            self._granted = self._allowed
            self._since = time.monotonic()
            self._rate = rate
            self._resized.ring()

    @property
    def is_limited(self) -> bool:
        """Whether there is a rate at all."""
        return self._rate is not None

    async def spend(self, size: int) -> None:
        """Wait until `size` more bytes fit the rate; a second's worth may run ahead."""
        if self._rate is None:
            return
        self._promised = mine = max(self._promised, self._allowed - self._rate) + size
        await self._wait(mine)

    async def spend_first(self, size: int) -> None:
        """Wait as `spend` does, but for none of those who wait there: what is small is not to wait for what is large.

        Whoever comes there later waits the longer for it, so that the rate holds.
        """
        if self._rate is None:
            return
        earliest = self._allowed - self._rate
        self._promised = max(self._promised, earliest) + size
        self._promised_first = mine = max(self._promised_first, earliest) + size
        await self._wait(mine)

    async def _wait(self, mine: float) -> None:
        while self._rate is not None and (left := mine - self._allowed) > 0:
            with anyio.move_on_after(left / self._rate):
                await self._resized.rung()

    @property
    def _allowed(self) -> float:
        """Return how many bytes the rate has allowed up to now; all that were asked for where there is none."""
        if self._rate is None:
            return self._promised
        return self._granted + (time.monotonic() - self._since) * self._rate
