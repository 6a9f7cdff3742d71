"""Returns memory to the system after a burst of transfers, which the C library would keep otherwise.

Without it, a daemon that fetched from a hundred hosts and then watches them for weeks would hold half as much again.
"""

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Final

import anyio
import anyio.to_thread

from harvestd.harvest.fleet.metrics import FleetMetrics

_LOOK: Final = 30.0
"""Seconds between two checks whether a burst is over."""


async def trim(tally: FleetMetrics) -> None:
    """Return free memory to the system after each burst of files, until cancelled.

    A burst is over when files came, but none since the last check.
    """
    release = _release()
    if release is None:
        return
    before = trimmed = 0
    while True:
        await anyio.sleep(_LOOK)
        if tally.files == before != trimmed:
            await anyio.to_thread.run_sync(partial(release, 0))
            trimmed = before
        before = tally.files


def _release() -> Callable[[int], int] | None:
    """Return malloc_trim(3); None if the C library is not glibc and has none."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
