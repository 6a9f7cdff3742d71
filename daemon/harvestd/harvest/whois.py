"""Which machine answers: asked of a box itself, as often as it matters. Its word is compared, never believed."""

from collections.abc import Collection
from datetime import timedelta

import anyio

from harvestd.errors import Retry
from harvestd.harvest.releasable import Who
from harvestd.remote.box import Box

_DEADLINE = 120.0
"""Seconds for a host to say who it is; nvidia-smi alone may need half of them."""


async def who_is(box: Box, ignored: Collection[str] = ()) -> Who:
    """Ask a connected host which machine it is, and who works there but for the programs `ignored`.

    Raise `Retry` where it is too slow, as every question does.
    """
    try:
        with anyio.fail_after(_DEADLINE):
            # Files that changed within no time: none of them is looked for.
            return Who.of((await box.circumstances(timedelta())).without(ignored))
    except TimeoutError:
        raise Retry(f"it does not say within {_DEADLINE:g} s which machine it is") from None
