"""Long computations in slices, between which other hosts' tasks run."""

import time
from typing import TypeVar

import anyio
import anyio.lowlevel

from harvestd.convention.steps import Steps

T = TypeVar("T")
_SLICE = 0.02
"""Seconds for which one computation holds the event loop."""


async def in_slices(steps: Steps[T]) -> T:
    """Return the result of a computation that yields where it may be interrupted."""
    began = time.perf_counter()
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
        if time.perf_counter() - began > _SLICE:
            await anyio.lowlevel.checkpoint()
            began = time.perf_counter()
