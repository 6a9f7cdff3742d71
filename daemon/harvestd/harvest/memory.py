"""Giving memory back after a rush: what thousands of files needed on their way stays with the C library otherwise.

A daemon that brought a hundred boxes home and then watches them for weeks would hold half as much again for nothing.
"""

import ctypes
from collections.abc import Callable
from functools import partial
from typing import Final

import anyio
import anyio.to_thread

from harvestd.harvest.fleet.metrics import Tally

_LOOK: Final = 30.0
"""Seconds between two looks whether a rush is over."""


async def trim(tally: Tally) -> None:
    """Return memory back whenever files came and none came since the last look, until cancelled."""
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
    """Return malloc_trim(3); None where the C library is another than glibc and has none."""
    found: Callable[[int], int] | None = getattr(ctypes.CDLL(None), "malloc_trim", None)
    return found
