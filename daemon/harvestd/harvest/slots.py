"""Slots of a limiter that are given back early: what takes long goes on without one, and delays nothing else."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


@asynccontextmanager
async def slot(limiter: anyio.CapacityLimiter, longest: float) -> AsyncIterator[None]:
    """Wait for a slot of `limiter`, in order; it is given back with the end of the body, or after `longest` seconds."""
    borrower = object()
    await limiter.acquire_on_behalf_of(borrower)
    is_held = True

    def give_back() -> None:
        nonlocal is_held
        if is_held:
            is_held = False
            limiter.release_on_behalf_of(borrower)

    # A timer and no task: the body may open scopes that outlive this one.
    timer = asyncio.get_running_loop().call_later(longest, give_back)
    try:
        yield
    finally:
        timer.cancel()
        give_back()
