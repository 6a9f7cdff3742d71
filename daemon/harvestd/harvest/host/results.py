"""What a pass over one host came to."""

from harvestd.convention.plan import Waiting
from harvestd.convention.values import Immutable
from harvestd.harvest.troubles import Trouble


class PassResult(Immutable):
    """What one whole pass over a host came to."""

    files: int
    bytes: int
    failed: dict[str, Trouble]
    """By the place on the box."""
    conflicts: dict[str, str]
    """By the place at home."""
    waiting: tuple[Waiting, ...]
    disk_full: bool
    missing_roots: frozenset[str]
