"""The newest verdict on each host, and how old it is. Values: whoever shows or acts on one says when it was made."""

from harvestd.convention.structs import Immutable
from harvestd.safety.verdict import Verdict


class Judged(Immutable):
    """A verdict on one host."""

    verdict: Verdict
    at: float
    """When it was made: Unix time on our clock."""
    idle_since: float | None = None
    """Since when nothing has moved there and nothing runs, as far as we have watched: Unix time; None: it is at work,
    or nobody knows."""
    still_since: float | None = None
    """The same moment in monotonic seconds. It stays the same until something moves."""
