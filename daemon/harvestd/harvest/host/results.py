"""The result of a pass over one host."""

from harvestd.convention.structs import Immutable
from harvestd.harvest.host.failures import Failure
from harvestd.planning.plan import Waiting


class PassResult(Immutable):
    """The result of one whole pass over a host."""

    files: int
    bytes: int
    failed: dict[str, Failure]
    """By remote path."""
    conflicts: dict[str, str]
    """By local path."""
    waiting: tuple[Waiting, ...]
    disk_full: bool
    missing_roots: frozenset[str]
