"""What a person asks for by hand, and what planning makes of it. Values: no I/O, no clock.

A request stays in force after it is settled: records that were asked for once come for later evals too, and a run that
is ignored stays so until that is taken back. Settling only says that all it names is here, or never will be.
"""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from enum import StrEnum

from msgspec import field

from harvestd.convention.kinds import RECORDS_FILES
from harvestd.convention.structs import Immutable

RECORDS = "records"
"""What `Request.thing` is where the records of a run's evals are asked for; else it is a checkpoint's directory."""
BY_HAND = "asked for by hand on "
IGNORED = "asked: ignored by hand on "
REFUSED = "refused: "
"""How an outcome begins where not all of it will ever be here."""


class RequestKind(StrEnum):
    """What is asked."""

    FETCH = "fetch"
    """To bring what the rules leave out. Detail: {"thing": "records"} or {"thing": "step_40"}."""
    IGNORE = "ignore"
    """To bring nothing more of a run. Detail: {"undo": true} takes it back."""
    NAME = "name"
    """To call an experiment by another name."""
    JUDGE = "judge"
    """To make a verdict on a host now; its storage is the host's identity, and its place the host's name."""


class Request(Immutable):
    """One row of what was asked; times are Unix seconds on our clock."""

    id: int
    kind: RequestKind
    storage: str
    place: str
    """With the storage the key of the run that it is about."""
    asked_at: float
    detail: Mapping[str, object] = field(default_factory=dict)
    taken_at: float | None = None
    """When a process that fetches took notice."""
    settled_at: float | None = None
    outcome: str = ""
    """What came of it, in words, once it is settled."""

    @property
    def run(self) -> tuple[str, str]:
        """The key of the run."""
        return self.storage, self.place

    @property
    def is_open(self) -> bool:
        """Whether something is still to come of it."""
        return self.settled_at is None

    @property
    def is_refused(self) -> bool:
        """Whether it is settled without all of it being here."""
        return self.outcome.startswith(REFUSED)

    @property
    def thing(self) -> str:
        """What is to be fetched; empty where the request is about something else."""
        thing = self.detail.get("thing", "")
        return thing if self.kind is RequestKind.FETCH and isinstance(thing, str) else ""

    def is_for(self, place: str) -> bool:
        """Return whether what lies at this absolute path on a box is surely part of what is to be fetched."""
        if self.thing == RECORDS:
            run = self.place.rpartition("/")[2]
            return place.endswith(RECORDS_FILES) and f"/{run}_" in place
        checkpoint = f"{self.place}/training_state/{self.thing}"
        return bool(self.thing) and f"{place}/".startswith(f"{checkpoint}/")

    @property
    def reason(self) -> str:
        """Why something comes home, or does not, for a manifest; the day is in UTC."""
        day = datetime.fromtimestamp(self.asked_at, UTC).date().isoformat()
        return f"{IGNORED if self.kind is RequestKind.IGNORE else BY_HAND}{day}"


class Wishes(Immutable):
    """What is in force for one run, each wish as it was asked first."""

    ignored: Request | None = None
    things: Mapping[str, Request] = field(default_factory=dict)
    """What is to be fetched beside what the rules say, by its name."""

    @property
    def records(self) -> Request | None:
        """Who asked for the records of the run's evals."""
        return self.things.get(RECORDS)


NO_WISHES = Wishes()


def wishes_of(requests: Iterable[Request]) -> Wishes:
    """Add up all that was ever asked for one run, in any order."""
    ignored: Request | None = None
    things: dict[str, Request] = {}
    for request in sorted(requests, key=lambda each: each.id):
        if request.kind is RequestKind.IGNORE:
            ignored = None if request.detail.get("undo") is True else ignored or request
        elif request.thing:
            things.setdefault(request.thing, request)
    return Wishes(ignored, things)
