"""Where an experiment's report stands: its README and `analysis/`, which harvestd writes and people may add to.

No box can put anything there: no row of the convention leads to these places.
"""

from collections.abc import Sequence
from typing import Final

README: Final = "README.md"
ANALYSIS: Final = "analysis"


def is_report(rest: Sequence[str]) -> bool:
    """Return whether the place at `rest` below an experiment's directory is the report's, or lies in it.

    In `analysis/` people work: Python leaves its caches there, and what somebody adds is at home.
    """
    return tuple(rest) == (README,) or tuple(rest[:1]) == (ANALYSIS,)
