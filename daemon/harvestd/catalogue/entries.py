"""What the catalogue takes and gives beside what the convention knows: plain values, without the database."""

from enum import StrEnum

from harvestd.convention.paths import LocalPath
from harvestd.convention.structs import Immutable
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.safety.verdict import Verdict

GONE = "gone"
ENDING = "ending"
FAILED = "failed"


class HostRecord(Immutable):
    """A host as it was last seen."""

    name: str
    identity: str
    address: str
    state: str
    """connected, ending (connected as well), lost, quarantined, failed (by a defect of harvestd), visited (by a single
    pass), or gone: no provider names it any more."""
    method: str = ""
    """probe or sftp."""
    last_success: float | None = None
    """Unix time of the last whole pass."""
    error: str = ""
    pending_bytes: int = 0


class VerdictRecord(Immutable):
    """A verdict on one host, with what the host costs. Times are Unix seconds on our clock."""

    identity: str
    name: str
    verdict: Verdict
    judged_at: float
    idle_since: float | None = None
    """None: it is at work, or nobody knows."""
    cents_per_hour: int | None = None
    """In hundredths of the cloud's currency; None: nobody said."""


class Transfer(Immutable):
    """A file that is half in staging."""

    name: str
    """Of the staged file."""
    storage: str
    place: str
    synced: int
    """Bytes that are surely on disk."""


class Intent(Immutable):
    """Files that were about to be published together, or removed, on record until it is known what became of them."""

    id: int
    files: tuple[FileRecord, ...]
    moved_from: tuple[LocalPath, ...] = ()
    """Where each of them was before, if they were about to be moved."""


class Orphans(Immutable):
    """Rows that name an experiment which is not on record, as a full disk or a crash of earlier versions left them."""

    runs: tuple[RunRecord, ...] = ()
    files: tuple[FileRecord, ...] = ()


class ReleaseOutcome(StrEnum):
    """What came of a decision."""

    PLANNED = "planned"
    """It would have been released: the daemon was told to say so and no more."""
    REFUSED = "refused"
    """It was not released, and surely not."""
    ASKED = "asked"
    """The cloud is being asked to end it."""
    UNCLEAR = "unclear"
    """The cloud was asked, and gave no clear answer."""
    RELEASED = "released"


class Decision(Immutable):
    """What was decided about releasing one host; its time is in Unix seconds on our clock."""

    host: str
    identity: str
    why: str
    outcome: ReleaseOutcome
    detail: str = ""
    """Why it came to that."""
    by_hand: bool = False
    at: float = 0.0
    id: int = 0
