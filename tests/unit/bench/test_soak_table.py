"""The soak's verdict: noise is flat, a leak is not."""

import math
from collections.abc import Callable

import pytest

from soak.table import MOST, Sample, rises, rows_of

SECONDS = 1800


def soaked(count: Callable[[int], float]) -> list[Sample]:
    """Return a sample a second for half an hour, each count of which is what `count` says."""
    return [{"at": 5.0 + second, **dict.fromkeys(MOST, count(second))} for second in range(SECONDS)]


@pytest.mark.parametrize(
    ("count", "flat"),
    [
        (lambda _: 40.0, True),
        (lambda second: 40.0 + 10 * math.sin(second / 40), True),
        (lambda second: 40.0 + (100 if second % 50 == 0 else 0), True),
        (lambda second: 20.0 + min(second, 300) / 10, True),
        (lambda second: 90.0 - second / 100, True),
        (lambda second: 40.0 + second / 60, False),
        (lambda second: 40.0 + (40 if second > 1200 else 0), False),
    ],
    ids=["constant", "waves", "peaks", "warm-up", "less", "one a minute", "a step"],
)
def test_what_is_flat(count: Callable[[int], float], *, flat: bool) -> None:
    """One thing lost each minute is told from work that comes and goes, and from the warm-up."""
    rows = list(rows_of(soaked(count), 30.0))
    assert len(rows) == SECONDS / 30
    assert {rise.flat for rise in rises(rows)} == {flat}
