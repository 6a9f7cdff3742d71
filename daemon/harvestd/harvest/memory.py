"""Frees memory: records of files that no connected host shows any more, and what the C library would keep.

Without it, a daemon that fetched from a hundred hosts and then watches them for weeks would hold half as much again.
"""

import ctypes
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import anyio
import anyio.to_thread

from harvestd.harvest.context import Context
from harvestd.harvest.fleet.metrics import FleetMetrics

_EVERY: Final = 60.0
"""Seconds between two searches for records that are not needed any more."""
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


async def drop_unused(context: Context) -> None:
    """Drop records that nothing has needed for some time, until cancelled. Raise `HaltedForSafety`."""
    await context.catalogue_opened.wait()
    while True:
        await anyio.sleep(_EVERY)
        await context.catalogue.files.drop_unused(time.monotonic())


def _release() -> Callable[[int], int] | None:
    """Return malloc_trim(3); None if the C library is not glibc and has none."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
