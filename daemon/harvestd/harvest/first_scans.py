"""A few at a time: hosts whose first scan, and what it brings, are under way.

The first scan of a host shows the most there ever is, and when a daemon starts, or a network comes back, all hosts are
new at once. Served side by side they would all be done at the end, and all that each shows and sends would be held till
then; one after the other most are done early. A host that takes long gives its slot back and goes on beside the next.
"""

from contextlib import AbstractAsyncContextManager
from typing import Final

import anyio

from harvestd.harvest.slots import slot

_AT_ONCE: Final = 8
"""Enough to keep one processor busy with hosts that are far away."""
_LONGEST: Final = 2.0
"""Seconds: a hundred slow hosts have all begun within half a minute."""


class Beginning:
    """Limits how many hosts begin at the same time."""

    def __init__(self, at_once: int = _AT_ONCE, longest: float = _LONGEST) -> None:
        self._free = anyio.CapacityLimiter(at_once)
        self._longest = longest

    def turn(self) -> AbstractAsyncContextManager[None]:
        """Return the slot to begin in: waited for in order, and given back early where the body takes long."""
        return slot(self._free, self._longest)
