"""Run blocking local calls on the way to a host: name resolution, key files, configuration files.

Each may hang (a dead name server, a network file system); then only the host that needs it waits, until its deadline.
They have a thread limiter of their own, so that the threads for everything else are never used up.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

_AT_ONCE = 256
"""Most simultaneous calls; each host that is being connected to makes one call at a time."""

_limiters: dict[int, anyio.CapacityLimiter] = {}
"""The limiter of the running event loop, by the loop's id."""


async def in_thread(call: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Return the result of a blocking call. When cancelled, abandon it: its thread ends when the call returns."""
    loop = id(asyncio.get_running_loop())
    if loop not in _limiters:
        _limiters.clear()
        _limiters[loop] = anyio.CapacityLimiter(_AT_ONCE)
    return await anyio.to_thread.run_sync(call, *arguments, abandon_on_cancel=True, limiter=_limiters[loop])
