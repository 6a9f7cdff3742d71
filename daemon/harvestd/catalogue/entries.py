"""What the catalogue takes and gives beside what the convention knows: plain values, without the database."""

from harvestd.convention.records import FileRecord
from harvestd.convention.values import value

GONE = "gone"


@value
class HostRecord:
    """A host as it was last seen."""

    name: str
    identity: str
    address: str
    state: str
    """connected, lost, quarantined, visited (by a single pass), or gone: no provider names it any more."""
    method: str = ""
    """probe or sftp."""
    last_success: float | None = None
    """Unix time of the last whole pass."""
    error: str = ""
    pending_bytes: int = 0


@value
class Transfer:
    """A file that is half in staging."""

    name: str
    """Of the staged file."""
    storage: str
    place: str
    synced: int
    """Bytes that are surely on disk."""


@value
class Intent:
    """Files that were about to be published together, or removed, on record until it is known what became of them."""

    id: int
    files: tuple[FileRecord, ...]
