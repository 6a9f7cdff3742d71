"""Requests by hand, and their combined effect on planning. Values: no I/O, no clock.

A request stays in force after it is settled: requested records are also fetched for later evals, and a run stays
ignored until that is undone. A settled request only means that everything it names is local, or never will be.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum

from msgspec import field

from harvestd.convention.kinds import RECORDS_FILES
from harvestd.convention.structs import Immutable

RECORDS = "records"
"""The value of `Request.thing` for the records of a run's evals; otherwise it is a checkpoint's directory name."""
BY_HAND = "asked for by hand on "
IGNORED = "asked: ignored by hand on "
REFUSED = "refused: "
"""Prefix of the outcome if not everything will ever be local."""


class RequestKind(StrEnum):
    """The kind of a request."""

    FETCH = "fetch"
    """Fetch what the rules leave out. Detail: {"thing": "records"} or {"thing": "step_40"}."""
    IGNORE = "ignore"
    """Fetch nothing more of a run. Detail: {"undo": true} reverts it."""
    NAME = "name"
    """Rename an experiment."""
    JUDGE = "judge"
    """Make a verdict on a host now; `storage` is the host's identity, and `place` the host's name."""


class Request(Immutable):
    """One recorded request; times are Unix seconds on our clock."""

    id: int
    kind: RequestKind
    storage: str
    place: str
    """With the storage the key of the run that it concerns."""
    asked_at: float
    detail: Mapping[str, object] = field(default_factory=dict)
    taken_at: float | None = None
    """When a fetching process accepted it."""
    settled_at: float | None = None
    outcome: str = ""
    """The result as text, once it is settled."""

    @property
    def run(self) -> tuple[str, str]:
        """The key of the run."""
        return self.storage, self.place

    @property
    def is_open(self) -> bool:
        """Whether it is not settled yet."""
        return self.settled_at is None

    @property
    def is_refused(self) -> bool:
        """Whether it is settled without everything being local."""
        return self.outcome.startswith(REFUSED)

    @property
    def thing(self) -> str:
        """What to fetch; empty for other kinds of requests."""
        thing = self.detail.get("thing", "")
        return thing if self.kind is RequestKind.FETCH and isinstance(thing, str) else ""

    def is_for(self, place: str) -> bool:
        """Return whether this absolute path on a host is certainly part of what is to be fetched."""
        if self.thing == RECORDS:
            run = self.place.rpartition("/")[2]
            return place.endswith(RECORDS_FILES) and f"/{run}_" in place
        checkpoint = f"{self.place}/training_state/{self.thing}"
        return bool(self.thing) and f"{place}/".startswith(f"{checkpoint}/")

    @property
    def reason(self) -> str:
        """The reason for fetching or leaving out something, for a manifest; the day is in UTC."""
        day = datetime.fromtimestamp(self.asked_at, UTC).date().isoformat()
        return f"{IGNORED if self.kind is RequestKind.IGNORE else BY_HAND}{day}"


class RunRequests(Immutable):
    """The requests in force for one run; of repeated requests the first."""

    ignored: Request | None = None
    things: Mapping[str, Request] = field(default_factory=dict)
    """Requests to fetch more than the rules, by `thing`."""

    @property
    def records(self) -> Request | None:
        """The request for the records of the run's evals; None if there is none."""
        return self.things.get(RECORDS)


NO_REQUESTS = RunRequests()


def combine_requests(requests: Iterable[Request]) -> RunRequests:
    """Combine all requests for one run, given in any order."""
    ignored: Request | None = None
    things: dict[str, Request] = {}
    for request in sorted(requests, key=lambda each: each.id):
        if request.kind is RequestKind.IGNORE:
            ignored = None if request.detail.get("undo") is True else ignored or request
        elif request.thing:
            things.setdefault(request.thing, request)
    return RunRequests(ignored, things)
