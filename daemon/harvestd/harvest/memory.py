"""Frees memory: records that no connected host needs, closed connections, and what the C library would keep.

Without it, a daemon that fetched from a hundred hosts and then watches them for weeks would hold half as much again.
"""

import ctypes
import gc
import time
from collections.abc import Callable
from functools import partial
from typing import Final

import anyio
import anyio.to_thread

from harvestd.harvest.context import Context
from harvestd.harvest.metrics import FleetMetrics

_EVERY: Final = 60.0
"""Seconds between two searches for records that are not needed any more."""
COLLECTING: Final = 300.0
"""Seconds between two collections of closed connections."""
_ARENA_MAX: Final = -8
"""M_ARENA_MAX of mallopt(3)."""
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


async def collect(tally: FleetMetrics) -> None:
    """Collect closed connections some minutes after they ended, until cancelled.

    A connection is a cycle of thousands of objects. The automatic collector would look at those that lasted for a while
    only after days: `cycles` makes it rare. A collection takes some ten milliseconds, so it runs only when there is
    something to collect.
    """
    collected = tally.ended
    while True:
        await anyio.sleep(COLLECTING)
        if tally.ended != collected:
            collected = tally.ended
            gc.collect()


async def drop_unused(context: Context) -> None:
    """Drop records that nothing has needed for some time, until cancelled. Raise `HaltedForSafety`."""
    await context.catalogue_opened.wait()
    while True:
        await anyio.sleep(_EVERY)
        await context.catalogue.files.drop_unused(time.monotonic())


def share_arenas() -> None:
    """Let all threads allocate from the same heap; call it before the first thread starts.

    glibc gives each thread a heap of its own, eight times as many as processors, and each keeps what a burst of files
    left in it. Threads of Python hardly ever allocate at the same time.
    """
    limit: Callable[[int, int], int] | None = getattr(ctypes.CDLL(None), "mallopt", None)
    if limit is not None:
        limit(_ARENA_MAX, 1)


def _release() -> Callable[[int], int] | None:
    """Return malloc_trim(3); None if the C library is not glibc and has none."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
