"""What a pass over one host came to."""

from harvestd.convention.structs import Immutable
from harvestd.harvest.host.failures import Trouble
from harvestd.planning.plan import Waiting


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
