"""Blocking calls of this machine on the way to a host: name servers, key files, configuration files.

Each may hang (a dead name server, a network file system), and then only the host that asked for it waits, until its
deadline. They have threads of their own, so that the threads for everything else are never used up.
"""

import asyncio
from collections.abc import Callable
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.to_thread

Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

_AT_ONCE = 256
"""Calls at the same time; each host that is being connected to makes one after the other."""

_limiters: dict[int, anyio.CapacityLimiter] = {}
"""The limiter of the event loop that runs, by its id."""


async def in_thread(call: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Return what a blocking call returns. When cancelled it is left behind, and its thread ends when the call does."""
    loop = id(asyncio.get_running_loop())
    if loop not in _limiters:
        _limiters.clear()
        _limiters[loop] = anyio.CapacityLimiter(_AT_ONCE)
    return await anyio.to_thread.run_sync(call, *arguments, abandon_on_cancel=True, limiter=_limiters[loop])
