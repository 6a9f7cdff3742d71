"""The JSON documents of hosts, runs and verdicts: one form for every `--json` and for the API.

Times are RFC 3339 in UTC, sizes bytes; null: not known. Texts are as the host sent them: they are escaped when a
document is printed or sent.
"""

import time
from typing import Any, Final

from harvestd.catalogue.entries import ENDING, GONE, VerdictRecord
from harvestd.convention.structs import Immutable
from harvestd.inventory.host import cents_since
from harvestd.json_text import timestamp
from harvestd.planning.records import RunRecord
from harvestd.planning.run_status import CurrentStatus
from harvestd.safety.verdict import document_now

Document = dict[str, Any]

HOST_KEYS: Final = """name, identity, address, state, configured, method, first_seen,
  last_success, pending_bytes, error,
  verdict (as of `safe`, or null), judged, idle_since,
  cents_per_hour, cents_since_idle"""
RUN_KEYS: Final = """id, name, host, path, experiment, step, total_steps,
  seconds_left, state, state_since, finished"""
VERDICT_KEYS: Final = """verdict {answer, safe, fresh, age_seconds, answer_then,
  reasons[] {kind, detail, bytes, seconds},
  losses[] {kind, what, bytes, entries},
  survives[] {kind, what, bytes, entries, through},
  accepted[], bytes_outstanding, seconds_left},
  judged, idle_since, cents_per_hour, cents_since_idle"""
"""The keys of the documents, for the help of commands."""

_ONLY_WITH_A_DAEMON: Final = {"connected", ENDING}
_NOT_WATCHED: Final = "not watched"


class HostView(Immutable):
    """A host, from the configuration and the catalogue."""

    name: str
    address: str
    state: str
    """connected, ending (read as well), visited (by `once`), lost, quarantined, failed, gone, or never seen."""
    configured: bool
    """Whether the file names it, or another provider listed it the last time."""
    identity: str | None = None
    """None: it was never seen."""
    method: str = ""
    first_seen: float | None = None
    last_success: float | None = None
    pending_bytes: int = 0
    error: str = ""
    judged: VerdictRecord | None = None
    """The newest verdict on it; None: there is none."""

    def is_watched(self, *, daemon: bool) -> bool:
        """Return whether its state and verdict are kept up to date; `daemon`: whether one runs."""
        return daemon and self.configured and self.state != GONE

    def state_now(self, *, watched: bool) -> str:
        """Return its present state: one that only a daemon can know is not shown without it."""
        return _NOT_WATCHED if self.state in _ONLY_WITH_A_DAEMON and not watched else self.state

    def document(self, *, watched: bool) -> Document:
        """Return its document, with `HOST_KEYS`; `watched` as returned by `is_watched`."""
        return {
            "name": self.name,
            "identity": self.identity,
            "address": self.address,
            "state": self.state_now(watched=watched).replace(" ", "_"),
            "configured": self.configured,
            "method": self.method or None,
            "first_seen": timestamp(self.first_seen),
            "last_success": timestamp(self.last_success),
            "pending_bytes": self.pending_bytes,
            "error": self.error or None,
            **verdict_document(self.judged, watched=watched),
        }


def run_document(run: RunRecord, directory: str | None, found: CurrentStatus) -> Document:
    """Return the document of a run, with `RUN_KEYS`; `directory` is that of its experiment, if it has one."""
    step, total = steps(run)
    return {
        "id": run.id,
        "name": run.name,
        "host": run.host,
        "path": run.place,
        "experiment": directory,
        "step": step,
        "total_steps": total,
        "seconds_left": run.seconds_left if found.goes_on else None,
        "state": found.status.value,
        "state_since": timestamp(found.since),
        "finished": run.finished,
    }


def steps(run: RunRecord) -> tuple[int | None, int | None]:
    """Return the newest step, and the number of the last one there was or is to be."""
    last = run.final.step if run.final else None
    return (last or run.step), (last or run.config.total_steps)


def verdict_document(record: VerdictRecord | None, *, watched: bool) -> Document:
    """Return the present meaning of a verdict, with its moment and cost, with `VERDICT_KEYS`.

    Nulls where there is none. `watched`: a daemon renews it, or it was made just now. Otherwise the document says *not
    safe*, whatever the verdict was.
    """
    if record is None:
        return dict.fromkeys(("verdict", "judged", "idle_since", "cents_per_hour", "cents_since_idle"))
    now = time.time()
    idle = cents_since(record.cents_per_hour, record.idle_since, now) if watched else None
    return {
        "verdict": document_now(record.verdict, verdict_age(record), watched=watched),
        "judged": timestamp(record.judged_at),
        "idle_since": timestamp(record.idle_since),
        "cents_per_hour": record.cents_per_hour,
        "cents_since_idle": idle,
    }


def verdict_age(record: VerdictRecord) -> float:
    """Return the seconds since a verdict was made. A clock that was set back must not keep an old one fresh."""
    return abs(time.time() - record.judged_at)
