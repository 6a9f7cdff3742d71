"""Which machine answers: asked of a box itself, as often as it matters. Its word is compared, never believed."""

from datetime import timedelta
from typing import Protocol, runtime_checkable

import anyio

from harvestd.convention.circumstances import Circumstances
from harvestd.errors import Retry
from harvestd.harvest.releasable import Who
from harvestd.remote.box import Box

_DEADLINE = 60.0
"""Seconds for a box to say who it is."""


@runtime_checkable
class _Telling(Protocol):
    """A box that can say which machine it is."""

    async def circumstances(self, lately: timedelta) -> Circumstances:
        """Ask it."""
        ...


async def who_is(box: Box) -> Who:
    """Ask a connected box which machine it is. Raises `Retry` where it can't say or is too slow."""
    if not isinstance(box, _Telling):
        raise Retry("it can't say which machine it is")
    try:
        with anyio.fail_after(_DEADLINE):
            return Who.of(await box.circumstances(timedelta()))
    except TimeoutError:
        raise Retry(f"it does not say within {_DEADLINE:g} s which machine it is") from None
