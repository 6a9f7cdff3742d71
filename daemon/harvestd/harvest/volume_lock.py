"""One lease a storage: hosts that show the same file system must not fetch the same files at the same time.

The lease is taken without an await in between, so that a cancellation can't leave one behind.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from harvestd.harvest.sync import Broadcast


class Leases:
    """Records which host holds the lease of each storage."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}
        self.released = Broadcast()
        """Rung whenever a lease is released."""

    def is_free(self, storage: str) -> bool:
        """Return whether no host holds the lease of `storage`."""
        return storage not in self._holders

    @contextmanager
    def held(self, storage: str, identity: str) -> Iterator[None]:
        """Hold the lease of `storage` for the body. Raise `RuntimeError` if it is not free."""
        if not self.is_free(storage):
            raise RuntimeError(f"the lease of {storage} is held by {self._holders[storage]}")
        self._holders[storage] = identity
        try:
            yield
        finally:
            del self._holders[storage]
            self.released.ring()

    async def wait_free(self, storage: str) -> None:
        """Return when the lease of `storage` is free; it stays free until the caller's next await."""
        while not self.is_free(storage):
            await self.released.wait(self.released.version)
