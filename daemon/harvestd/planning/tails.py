"""The ends of growing files that were read and are not here: what follows the last whole line or record. Pure."""

from collections.abc import Collection

from harvestd.convention.scan.model import RunDir, Source
from harvestd.planning.index import Knowledge


def is_torn(run: RunDir, storage: str, knowledge: Knowledge) -> bool:
    """Return whether a growing file of a run goes on, on the box, after the last whole line that is here."""
    return any(unread_bytes(wanted.source, (storage,), knowledge) for wanted in run.growing)


def unread_bytes(source: Source, storages: Collection[str], knowledge: Knowledge) -> int:
    """Return the bytes of a file that are not here although this version of it was read; 0 where it was not."""
    copies = (copy for storage in storages for copy in knowledge.copies(storage, source.place))
    return min((source.version.size - each.size for each in copies if each.version == source.version), default=0)
