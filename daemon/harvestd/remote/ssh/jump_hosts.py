"""Share connections to jump hosts among the connections that they carry; each is closed when its last user has left.

sshd drops handshakes at random beyond MaxStartups (10:30:100), and a fleet behind one bastion would begin as many at
once as it has hosts. Forwarded connections are not limited by MaxSessions, which counts sessions only.
"""

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING

import anyio

from harvestd.errors import HarvestError

if TYPE_CHECKING:
    from harvestd.remote.ssh.connection import Connection

Opening = Callable[[], AbstractAsyncContextManager["Connection"]]


class _Shared:
    """One connection, or the attempt to open it, and the number of its users, waiting ones included."""

    def __init__(self) -> None:
        self.users = 0
        self.settled = anyio.Event()
        """Set when the attempt has ended, with or without success."""
        self.connection: Connection | None = None
        self.error: HarvestError | None = None
        self.closing = AsyncExitStack()

    @property
    def is_usable(self) -> bool:
        """Whether a further user may join: the connection is being opened, or is alive."""
        if not self.settled.is_set():
            return True
        return self.connection is not None and not self.connection.is_closed


class Hops:
    """Shares connections to jump hosts: at most `most` for each key, of which a new user gets the least used one."""

    def __init__(self, most: int = 1) -> None:
        self._most = most
        self._shared: dict[Hashable, list[_Shared]] = {}

    def __len__(self) -> int:
        """Return the number of connections, those that are being opened included."""
        return sum(map(len, self._shared.values()))

    @asynccontextmanager
    async def shared(self, key: Hashable, opening: Opening) -> AsyncIterator["Connection"]:
        """Yield a connection for `key`, opened by `opening` where there is none to share.

        Raise what `opening` raises. The attempt belongs to one user and runs under that user's deadlines. Users that
        wait for it fail with it; where it was cancelled, one of them starts the next attempt.
        """
        while True:
            shared, is_new = self._joined(key)
            try:
                if is_new:
                    await self._open(shared, opening)
                else:
                    await shared.settled.wait()
                if shared.connection is not None:
                    yield shared.connection
                    return
                if shared.error is not None:
                    raise shared.error
            finally:
                await self._left(key, shared)

    def _joined(self, key: Hashable) -> tuple[_Shared, bool]:
        usable = [each for each in self._shared.get(key, ()) if each.is_usable]
        is_new = len(usable) < self._most
        shared = _Shared() if is_new else min(usable, key=lambda each: each.users)
        if is_new:
            self._shared.setdefault(key, []).append(shared)
        shared.users += 1
        return shared, is_new

    @staticmethod
    async def _open(shared: _Shared, opening: Opening) -> None:
        try:
            shared.connection = await shared.closing.enter_async_context(opening())
        except HarvestError as e:
            shared.error = e
            raise
        finally:
            shared.settled.set()

    async def _left(self, key: Hashable, shared: _Shared) -> None:
        shared.users -= 1
        if shared.users == 0 or not shared.is_usable:
            found = self._shared.get(key, [])
            if shared in found:
                found.remove(shared)
            if not found:
                self._shared.pop(key, None)
        if shared.users == 0:
            await shared.closing.aclose()
