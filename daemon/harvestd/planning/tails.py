"""Ends of growing files that were read and not stored: data after the last complete line or record. Pure."""

from collections.abc import Collection

from harvestd.convention.scan.model import RunDir, Source
from harvestd.planning.index import PlanningIndex


def is_torn(run: RunDir, storage: str, knowledge: PlanningIndex) -> bool:
    """Return whether a growing file of a run continues on the host after the last stored complete line."""
    return any(unread_bytes(wanted.source, (storage,), knowledge) for wanted in run.growing)


def unread_bytes(source: Source, storages: Collection[str], knowledge: PlanningIndex) -> int:
    """Return the bytes of a file that are not local although this version was read; 0 if it was not read."""
    copies = (copy for storage in storages for copy in knowledge.copies(storage, source.place))
    return min((source.version.size - each.size for each in copies if each.version == source.version), default=0)
