"""Which machine answers: asked of a box itself, as often as it matters. Its word is compared, never believed."""

from datetime import timedelta

import anyio

from harvestd.errors import Retry
from harvestd.harvest.releasable import Who
from harvestd.remote.box import Box

_DEADLINE = 60.0
"""Seconds for a box to say who it is."""


async def who_is(box: Box) -> Who:
    """Ask a connected box which machine it is. Raises `Retry` where it is too slow, as every question does."""
    try:
        with anyio.fail_after(_DEADLINE):
            return Who.of(await box.circumstances(timedelta()))
    except TimeoutError:
        raise Retry(f"it does not say within {_DEADLINE:g} s which machine it is") from None
