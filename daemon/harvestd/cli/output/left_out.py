"""What was left out on a host, and why: rows, total and documents, the same in every answer."""

from collections.abc import Sequence

from harvestd.cli.output import units
from harvestd.cli.output.tables import Column, Row
from harvestd.convention.scan.model import LeftOut

COLUMNS = (
    Column("SIZE", "right"),
    Column("ENTRIES", "right"),
    Column("LEFT OUT", wide=True),
    Column("BECAUSE", wide=True, mark="  "),
)


def total(left_out: Sequence[LeftOut]) -> str:
    """Return the size of everything that is left out, as far as it is known."""
    known = units.size(sum(each.size or 0 for each in left_out))
    return f"at least {known}" if any(each.size is None for each in left_out) else known


def rows(left_out: Sequence[LeftOut]) -> list[Row]:
    """Return a row of `COLUMNS` for each."""
    return [(units.size(each.size), str(each.entries), each.place, reason(each)) for each in left_out]


def reason(left_out: LeftOut) -> str:
    """Return why it is not here, and whether it has vanished from its host."""
    return left_out.reason if left_out.gone_at is None else f"{left_out.reason}; gone from the host"


def documents(left_out: Sequence[LeftOut]) -> list[dict[str, object]]:
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
