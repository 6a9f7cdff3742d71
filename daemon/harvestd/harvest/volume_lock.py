"""One host at a time for each storage: hosts that show the same file system must not fetch the same files side by side.

The lease of a storage is taken between two awaits, so that a cancellation can't leave one behind.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from harvestd.harvest.sync import Bell


class Leases:
    """Knows by which host each storage is fetched from now."""

    def __init__(self) -> None:
        self._holders: dict[str, str] = {}
        self.released = Bell()
        """Rung whenever a lease is given up."""

    def is_free(self, storage: str) -> bool:
        """Return whether no host holds the lease of `storage`."""
        return storage not in self._holders

    @contextmanager
    def held(self, storage: str, identity: str) -> Iterator[None]:
        """Hold the lease of `storage`, which must be free, for the body."""
        if not self.is_free(storage):
            raise RuntimeError(f"the lease of {storage} is held by {self._holders[storage]}")
        self._holders[storage] = identity
        try:
            yield
        finally:
            del self._holders[storage]
            self.released.ring()

    async def wait_free(self, storage: str) -> None:
        """Return when the lease of `storage` is free; it is for as long as the caller does not await anything else."""
        while not self.is_free(storage):
            await self.released.wait(self.released.version)
