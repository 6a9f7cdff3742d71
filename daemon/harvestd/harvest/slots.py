"""Slots of a limiter that are released early, so that slow work continues without one and does not delay others."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio


@asynccontextmanager
async def slot(limiter: anyio.CapacityLimiter, longest: float) -> AsyncIterator[None]:
    """Wait in order for a slot of `limiter`; release it at the end of the body, or after `longest` seconds."""
    borrower = object()
    await limiter.acquire_on_behalf_of(borrower)
    is_held = True

    def give_back() -> None:
        nonlocal is_held
        if is_held:
            is_held = False
            limiter.release_on_behalf_of(borrower)

    # A timer instead of a task: the body may open scopes that outlive this one.
    timer = asyncio.get_running_loop().call_later(longest, give_back)
    try:
        yield
    finally:
        timer.cancel()
        give_back()
