"""How many examples a property is tried with: a part in the quick run, all of them in `make test-slow`."""

import os
from typing import Final

_ALL: Final = os.environ.get("HARVESTD_TEST_EXAMPLES") == "all"
_PART: Final = 4


def examples(number: int, *, least: int = 25) -> int:
    """Return how many of `number` examples this run tries; in the quick one it is a fourth, and `least` at least."""
    return number if _ALL else max(least, number // _PART)
