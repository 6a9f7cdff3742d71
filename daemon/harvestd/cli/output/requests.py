"""Manual requests as rows and documents: the same in `fetch`, `ignore`, `show` and `status`."""

from collections.abc import Iterable

from harvestd.cli.output import units
from harvestd.cli.output.tables import Column, Row
from harvestd.planning.requests import Request, RequestKind

COLUMNS = (
    Column("ASKED"),
    Column("FOR"),
    Column("STATE"),
    Column("OUTCOME", wide=True),
)


def what(request: Request) -> str:
    """Return a short text on what is requested."""
    if request.kind is RequestKind.IGNORE:
        return "fetch it again" if request.detail.get("undo") is True else "ignore it"
    return request.thing or str(request.kind)


def state(request: Request) -> str:
    """Return the state of a request."""
    if not request.is_open:
        return "refused" if request.is_refused else "settled"
    return "not taken yet" if request.taken_at is None else "outstanding"


def rows(requests: Iterable[Request]) -> list[Row]:
    """Return a row of `COLUMNS` for each."""
    return [(units.age(each.asked_at), what(each), state(each), each.outcome or units.NOTHING) for each in requests]


def documents(requests: Iterable[Request]) -> list[dict[str, object]]:
    """Return the requests for a JSON document."""
    return [
        {
            "id": each.id,
            "kind": str(each.kind),
            "what": what(each),
            "state": state(each).replace(" ", "_"),
            "asked": units.timestamp(each.asked_at),
            "taken": units.timestamp(each.taken_at),
            "settled": units.timestamp(each.settled_at),
            "outcome": each.outcome or None,
        }
        for each in requests
    ]
