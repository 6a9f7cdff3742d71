"""What a pass over one host came to."""

from dataclasses import dataclass

from harvestd.convention.plan import Waiting
from harvestd.harvest.troubles import Trouble


@dataclass(frozen=True, slots=True)
class PassResult:
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
