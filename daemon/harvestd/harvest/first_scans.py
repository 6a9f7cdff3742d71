"""Limits how many hosts are in their first scan, and in the transfers that follow from it, at once.

The first scan of a host finds more than any later one, and when a daemon starts, or a network comes back, all hosts are
new at once. If all were served in parallel, all would finish at the end, and everything that each shows and sends would
be in memory until then. One after the other, most finish early. A host that takes long gives its slot back and goes on
beside the next one.
"""

from contextlib import AbstractAsyncContextManager
from typing import Final

import anyio

from harvestd.harvest.slots import slot

_AT_ONCE: Final = 8
"""Enough to keep one processor busy with distant hosts."""
_LONGEST: Final = 2.0
"""Seconds: a hundred slow hosts have all begun within half a minute."""


class StartGate:
    """Limits how many hosts begin at the same time."""

    def __init__(self, at_once: int = _AT_ONCE, longest: float = _LONGEST) -> None:
        self._free = anyio.CapacityLimiter(at_once)
        self._longest = longest

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Return a context manager for a slot, acquired in order and given back early if the body takes long."""
        return slot(self._free, self._longest)
