"""The newest verdict on a host and its age.

A plain value: display its age along with it, and check it before acting.
"""

from harvestd.convention.structs import Immutable
from harvestd.safety.verdict import Verdict


class Judged(Immutable):
    """A verdict on one host."""

    verdict: Verdict
    at: float
    """When it was made, in Unix time by the local clock."""
    idle_since: float | None = None
    """Since when nothing has changed and nothing runs there, as far as observed, in Unix time.

    None: the host is at work, or this is unknown.
    """
    still_since: float | None = None
    """The same moment in monotonic seconds. It stays the same until something changes."""
