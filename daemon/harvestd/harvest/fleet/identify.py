"""Identifies the machine behind a connection, by what it reports itself; used for comparisons only, never trusted."""

from collections.abc import Collection
from datetime import timedelta

import anyio

from harvestd.errors import Retry
from harvestd.harvest.release.policy import Who
from harvestd.remote.api import Box, Limits


async def who_is(box: Box, limits: Limits, ignored: Collection[str] = ()) -> Who:
    """Return the identity of a connected host, and its activity apart from the programs `ignored`.

    Raise `Retry` if it is too slow, as every query does.
    """
    # Beyond the host's own time limit, since earlier queries are answered first.
    seconds = (limits.inspect_time + limits.answer_time).total_seconds()
    try:
        with anyio.fail_after(seconds):
            # A time span of zero: no changed files are searched for.
            return Who.of((await box.circumstances(timedelta())).without(ignored))
    except TimeoutError:
        raise Retry(
            f"it does not say within {seconds:g} s which machine it is and who works there; limits.inspect_time says "
            "how long that may take"
        ) from None
