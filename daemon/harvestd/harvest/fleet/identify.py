"""Which machine answers: asked of a box itself, as often as it matters. Its word is compared, never believed."""

from collections.abc import Collection
from datetime import timedelta

import anyio

from harvestd.errors import Retry
from harvestd.harvest.release.policy import Who
from harvestd.remote.api import Box, Limits


async def who_is(box: Box, limits: Limits, ignored: Collection[str] = ()) -> Who:
    """Ask a connected host which machine it is, and who works there but for the programs `ignored`.

    Raise `Retry` where it is too slow, as every question does.
    """
    # Beyond what the host gives itself: what was asked before is answered first.
    seconds = (limits.inspect_time + limits.answer_time).total_seconds()
    try:
        with anyio.fail_after(seconds):
            # Files that changed within no time: none of them is looked for.
            return Who.of((await box.circumstances(timedelta())).without(ignored))
    except TimeoutError:
        raise Retry(
            f"it does not say within {seconds:g} s which machine it is and who works there; limits.inspect_time says "
            "how long that may take"
        ) from None
