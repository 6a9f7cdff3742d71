"""Values of the catalogue that are not records of `planning`: without the database."""

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

from harvestd.convention.paths import LocalPath
from harvestd.convention.structs import Immutable
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.safety.verdict import Verdict

GONE = "gone"
ENDING = "ending"
FAILED = "failed"
HOST_STATES = ("connected", ENDING, "lost", "quarantined", FAILED, "visited", GONE)
METHODS = ("", "probe", "sftp")
"""How a host is read; empty if it was never connected."""


class HostRecord(Immutable):
    """The last known state of a host."""

    name: str
    identity: str
    address: str
    state: str
    """One of `HOST_STATES`: ending is also connected, failed is due to a defect of harvestd, visited by a single pass,
    and gone means that no provider lists it any more."""
    method: str = ""
    """One of `METHODS`."""
    last_success: float | None = None
    """Unix time of the last complete pass."""
    error: str = ""
    pending_bytes: int = 0


class VerdictRecord(Immutable):
    """A verdict on one host, with the host's cost. Times are Unix seconds on our clock."""

    identity: str
    name: str
    verdict: Verdict
    judged_at: float
    idle_since: float | None = None
    """None: it is working, or that is unknown."""
    cents_per_hour: int | None = None
    """In hundredths of the cloud's currency; None: unknown."""


class Transfer(Immutable):
    """A file of which a part is in staging."""

    name: str
    """The name of the staged file."""
    storage: str
    place: str
    synced: int
    """Bytes that were synced to disk."""


class Intent(Immutable):
    """Files about to be published together or removed; recorded until the outcome is recorded."""

    id: int
    files: tuple[FileRecord, ...]
    moved_from: tuple[LocalPath, ...] = ()
    """The previous local path of each file, if they are about to be moved."""


class Orphans(Immutable):
    """Rows with an unrecorded experiment, as a full disk or a crash of earlier versions left them."""

    runs: tuple[RunRecord, ...] = ()
    files: tuple[FileRecord, ...] = ()


class ReleaseOutcome(StrEnum):
    """The outcome of a decision."""

    PLANNED = "planned"
    """It would have been released, but the daemon is configured only to report that."""
    REFUSED = "refused"
    """It was certainly not released."""
    ASKED = "asked"
    """The request to terminate it is being sent to the cloud."""
    UNCLEAR = "unclear"
    """The request was sent, but the cloud's answer was unclear."""
    RELEASED = "released"


class Decision(Immutable):
    """A decision about releasing one host; `at` is in Unix seconds on our clock."""

    host: str
    identity: str
    why: str
    outcome: ReleaseOutcome
    detail: str = ""
    """The reason for the outcome."""
    by_hand: bool = False
    at: float = 0.0
    id: int = 0


class Notification(Immutable):
    """Something that a person should learn of. Times are Unix seconds on our clock."""

    key: str
    """Unique: receivers use it to recognise what they got before."""
    event: str
    """The name of an event."""
    subject: str
    """What it is about: a host's identity, or a run's id with its step."""
    payload: Mapping[str, Any]
    """The fields of the event, as JSON values."""
    created: float
    id: int = 0


class Episode(Immutable):
    """The latest notification of one event about one subject."""

    number: int
    """Counted from 1 over all notifications of this event about the subject."""
    created: float
    ended: float | None
    """When it was seen to be over; None: it may last."""


class Delivery(Immutable):
    """A notification that a receiver has not got yet."""

    notification: Notification
    attempts: int
    next_try: float
