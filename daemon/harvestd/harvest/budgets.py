"""Budgets that all hosts share: memory for buffers, and bandwidth."""

import time
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from msgspec import Struct, field

from harvestd.harvest.sync import Broadcast


class MemoryBudget:
    """Bytes that buffers may hold at once, over all hosts; requests beyond it wait in order."""

    def __init__(self, total: int) -> None:
        """`total` in bytes."""
        self.total = total
        self._held = 0
        self._waiting: deque[_Turn] = deque()

    def has(self, size: int) -> bool:
        """Return whether `take` would get `size` bytes at once."""
        return not self._waiting and self._fits(size)

    def _fits(self, size: int) -> bool:
        # A request that is larger than the whole budget is granted while nothing else is held.
        return not size or not self._held or self._held + size <= self.total

    def resize(self, total: int) -> None:
        """Change the total; bytes that are held beyond it stay held."""
        self.total = total
        self._serve()

    async def take(self, size: int) -> None:
        """Take `size` bytes, waiting for them in order.

        More than the whole budget is granted while nothing else is held. A caller that holds bytes which it can give
        back must do so first.
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
        """Return the `size` bytes of one `take` to the budget."""
        self._held -= size
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._fits(self._waiting[0].size):
            turn = self._waiting.popleft()
            self._held += turn.size
            turn.come.set()

    @asynccontextmanager
    async def hold(self, size: int) -> AsyncIterator[None]:
        """Hold `size` bytes for the body; waits as `take` does."""
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
        """`rate` in bytes per second; None: unlimited."""
        self._rate = rate
        self._promised = 0.0
        """Bytes requested since the beginning."""
        self._promised_first = 0.0
        """The position in that count up to which prioritised requests are placed."""
        self._granted = 0.0
        """Bytes that the rate had allowed when it was set."""
        self._since = time.monotonic()
        self._resized = Broadcast()

    def resize(self, rate: int | None) -> None:
        """Change the rate, also for requests that wait already; they keep their order."""
        if rate != self._rate:
            self._granted = self._allowed
            self._since = time.monotonic()
            self._rate = rate
            self._resized.ring()

    @property
    def is_limited(self) -> bool:
        """Whether there is a rate limit."""
        return self._rate is not None

    async def spend(self, size: int) -> None:
        """Wait until `size` more bytes fit the rate; up to one second's worth may be spent in advance."""
        if self._rate is None:
            return
        self._promised = mine = max(self._promised, self._allowed - self._rate) + size
        await self._wait(mine)

    async def spend_first(self, size: int) -> None:
        """Wait as `spend` does, but not behind its requests: small transfers must not wait for large ones.

        Later calls of `spend` wait longer in return, so that the rate holds.
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
        """Return the bytes that the rate has allowed up to now; without a rate, all that were requested."""
        if self._rate is None:
            return self._promised
        return self._granted + (time.monotonic() - self._since) * self._rate
