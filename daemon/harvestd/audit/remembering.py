"""Restores requests by hand from manifests: from the reasons of fetched files and of skipped entries.

A request without any result is in no manifest, and is lost with the catalogue.
"""

from collections.abc import Iterable
from datetime import UTC, datetime

from harvestd.convention.kinds import Kind
from harvestd.convention.scan.model import LeftOut
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.planning.requests import BY_HAND, IGNORED, RECORDS, Request, RequestKind

_OUTCOME = "read back from the manifest"


def remembered(run: RunRecord, files: Iterable[FileRecord], left_out: Iterable[LeftOut]) -> list[Request]:
    """Return the requests for a run; settled, and without ids."""
    found: dict[str, Request] = {}
    for file in files:
        thing, moment = _thing(run, file), _day(file.reason, BY_HAND)
        if thing and moment is not None:
            found.setdefault(thing, _request(run, RequestKind.FETCH, moment, {"thing": thing}))
    for each in left_out:
        moment = _day(each.reason, IGNORED)
        if moment is not None:
            found.setdefault("", _request(run, RequestKind.IGNORE, moment, {}))
    return list(found.values())


def _request(run: RunRecord, kind: RequestKind, moment: float, detail: dict[str, object]) -> Request:
    return Request(0, kind, run.storage, run.place, moment, detail, moment, moment, _OUTCOME)


def _thing(run: RunRecord, file: FileRecord) -> str:
    if file.kind is Kind.RECORDS:
        return RECORDS
    above = f"{run.place}/training_state/"
    return file.place.removeprefix(above).partition("/")[0] if file.place.startswith(above) else ""


def _day(reason: str, beginning: str) -> float | None:
    """Return the start of the day in a reason, as Unix time; None for any other reason."""
    if not reason.startswith(beginning):
        return None
    try:
        return datetime.strptime(reason.removeprefix(beginning), "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
