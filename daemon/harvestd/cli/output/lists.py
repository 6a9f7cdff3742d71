"""What is left out and what was requested, as rows of a page and as JSON: the same in every answer."""

from collections.abc import Iterable, Sequence

from harvestd.cli.output import units
from harvestd.cli.output.page import Column, Row
from harvestd.convention.scan.model import LeftOut
from harvestd.json_text import timestamp
from harvestd.planning.requests import Request, RequestKind

LEFT_OUT_COLUMNS = (
    Column("SIZE", "right"),
    Column("ENTRIES", "right"),
    Column("LEFT OUT", wide=True),
    Column("BECAUSE", wide=True, mark="  "),
)


def left_out_total(left_out: Sequence[LeftOut]) -> str:
    """Return the size of everything that is left out, as far as it is known."""
    known = units.size(sum(each.size or 0 for each in left_out))
    return f"at least {known}" if any(each.size is None for each in left_out) else known


def left_out_rows(left_out: Sequence[LeftOut]) -> list[Row]:
    """Return a row of `COLUMNS` for each."""
    return [(units.size(each.size), str(each.entries), each.place, left_out_reason(each)) for each in left_out]


def left_out_reason(left_out: LeftOut) -> str:
    """Return why it is not here, and whether it has vanished from its host."""
    return left_out.reason if left_out.gone_at is None else f"{left_out.reason}; gone from the host"


def left_out_documents(left_out: Sequence[LeftOut]) -> list[dict[str, object]]:
    """Return the left-out entries for a JSON document; bytes: null where they are not counted.

    gone_at: since when it has not been on the host, in Unix time; null where it was there at the last scan.
    """
    return [
        {
            "from": each.place,
            "bytes": each.size,
            "entries": each.entries,
            "reason": each.reason,
            "gone_at": each.gone_at,
        }
        for each in left_out
    ]


REQUEST_COLUMNS = (
    Column("ASKED"),
    Column("FOR"),
    Column("STATE"),
    Column("OUTCOME", wide=True),
)


def request_text(request: Request) -> str:
    """Return a short text on what is requested."""
    if request.kind is RequestKind.IGNORE:
        return "fetch it again" if request.detail.get("undo") is True else "ignore it"
    return request.thing or str(request.kind)


def request_state(request: Request) -> str:
    """Return the state of a request."""
    if not request.is_open:
        return "refused" if request.is_refused else "settled"
    return "not taken yet" if request.taken_at is None else "outstanding"


def request_rows(requests: Iterable[Request]) -> list[Row]:
    """Return a row of `COLUMNS` for each."""
    return [
        (units.age(each.asked_at), request_text(each), request_state(each), each.outcome or units.NOTHING)
        for each in requests
    ]


def request_documents(requests: Iterable[Request]) -> list[dict[str, object]]:
    """Return the requests for a JSON document."""
    return [
        {
            "id": each.id,
            "kind": str(each.kind),
            "what": request_text(each),
            "state": request_state(each).replace(" ", "_"),
            "asked": timestamp(each.asked_at),
            "taken": timestamp(each.taken_at),
            "settled": timestamp(each.settled_at),
            "outcome": each.outcome or None,
        }
        for each in requests
    ]
