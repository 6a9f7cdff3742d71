"""`GET /v1/runs/ID/series`: the curves of a run. `README.md` describes the answer."""

import re
from typing import Final

import msgspec
from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from harvestd.api.connection import error
from harvestd.api.state import Source
from harvestd.errors import HarvestError
from harvestd.planning.records import RunRecord
from harvestd.series.buckets import LIMIT
from harvestd.series.log_index import LONGEST_KEY, MOST_KEYS
from harvestd.series.reading import Question

_POINTS: Final = re.compile(r"[0-9]{1,4}", re.ASCII)
_CURSOR: Final = re.compile(r"[0-9a-z.-]{1,200}", re.ASCII)
_PARAMETERS: Final = frozenset({"keys", "from", "points", "x"})


async def series(source: Source, request: Request) -> Response:
    """Answer a request for the curves of the run whose id is in the path."""
    if not source.ready.is_set():
        return error(503, "not all hosts are being watched yet")
    try:
        question = _question(request.query_params)
    except ValueError as e:
        return error(400, str(e))
    run = run_of(source, request.path_params["id"])
    if run is None:
        return error(404, "no run has this id")
    try:
        document = await source.logs.answer(run.experiment, question)
    except HarvestError as e:
        return error(503, str(e))
    return Response(b'{"run":' + msgspec.json.encode(run.id) + b"," + document + b"}", media_type="application/json")


def run_of(source: Source, identifier: str) -> RunRecord | None:
    """Return the run with this id; None if there is none."""
    return next((run for run in source.context.catalogue.knowledge.runs() if run.id == identifier), None)


def _question(query: QueryParams) -> Question:
    """Return what is asked for; raise `ValueError` with a message for an unusable parameter."""
    if query.keys() - _PARAMETERS or len(query.multi_items()) > len(query):
        raise ValueError("the parameters are keys, from, points and x, each once")
    keys = tuple(query["keys"].split(",")) if query.get("keys") else None
    if keys is not None and (len(keys) > MOST_KEYS or any(len(key) > LONGEST_KEY for key in keys)):
        raise ValueError(f"keys must be at most {MOST_KEYS} keys of a log, with commas between them")
    points = query.get("points", "1000")
    if not _POINTS.fullmatch(points) or not 1 <= int(points) <= LIMIT:
        raise ValueError(f"points must be a number from 1 to {LIMIT}")
    cursor = query.get("from") or None
    if cursor is not None and not _CURSOR.fullmatch(cursor):
        raise ValueError("from must be the cursor of an earlier answer")
    if query.get("x", "step") not in {"step", "time"}:
        raise ValueError("x must be step or time")
    return Question(keys, int(points), cursor, with_times=query.get("x") == "time")
