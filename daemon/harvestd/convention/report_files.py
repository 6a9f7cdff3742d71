"""The places of an experiment's report: its README and `analysis/`, which harvestd writes and people may add to.

No host can put anything there: no rule of the convention maps a remote path to these places.
"""

from collections.abc import Sequence
from typing import Final

README: Final = "README.md"
ANALYSIS: Final = "analysis"


def is_report(rest: Sequence[str]) -> bool:
    """Return whether `rest`, a path below an experiment's directory, is part of the report.

    Everything in `analysis/` is: people work there, and Python leaves caches.
    """
    return tuple(rest) == (README,) or tuple(rest[:1]) == (ANALYSIS,)
