"""The API's requests and answers. `README.md` describes them for users."""

import re
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from harvestd.api import metrics
from harvestd.api.connection import Door, error
from harvestd.api.state import Source, state
from harvestd.api.streaming import EventStream, Filter

_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_LONGEST_FILTER: Final = 200

Answer = Callable[[Request], Awaitable[Response]]


def application(source: Source) -> Starlette:
    """Return the application for a daemon; each request must carry its `door` in its state."""
    requests = _Requests(source)
    commands: dict[str, Callable[[], None]] = {
        "scan": source.scan_now.ring,
        "pause": source.pause,
        "resume": source.resume,
        "reload": source.reload,
    }
    return Starlette(
        routes=[
            Route("/v1/state", requests.state, methods=["GET"]),
            Route("/v1/events", requests.events, methods=["GET"]),
            Route("/metrics", requests.metrics, methods=["GET"]),
            Route("/healthz", requests.healthz, methods=["GET"]),
            Route("/readyz", requests.readyz, methods=["GET"]),
            *(Route(f"/v1/{name}", _command(name, deed), methods=["POST"]) for name, deed in commands.items()),
        ],
        middleware=[Middleware(_AtTheDoor)],
        exception_handlers={HTTPException: _told},
    )


class _Requests:
    def __init__(self, source: Source) -> None:
        self._source = source

    async def state(self, _request: Request) -> Response:
        return JSONResponse(state(self._source, await self._free_bytes()))

    async def metrics(self, _request: Request) -> Response:
        return Response(metrics.metrics(self._source, await self._free_bytes()), media_type=metrics.CONTENT_TYPE)

    async def events(self, request: Request) -> Response:
        asked = request.query_params
        unknown = asked.keys() - {"host", "event", "level", "since", "follow"}
        if unknown or any(len(value) > _LONGEST_FILTER for value in asked.values()):
            return error(400, "the parameters are host, event, level, since and follow, each a short text")
        since = asked.get("since", request.headers.get("last-event-id", "")) or None
        if since is not None and not _NUMBER.fullmatch(since):
            return error(400, "since must be the number of an event")
        if asked.get("follow", "1") not in {"0", "1"}:
            return error(400, "follow must be 0 or 1")
        try:
            wanted = Filter(asked.get("host", ""), asked.get("event", ""), asked.get("level", ""))
        except ValueError as e:
            return error(400, str(e))
        number = None if since is None else int(since)
        return EventStream(self._source, wanted, number, follow=asked.get("follow") != "0")

    async def healthz(self, _request: Request) -> Response:
        stuck = self._source.context.deadlines.overdue()
        return JSONResponse({"error": "a task is past its deadline"}, 503) if stuck else JSONResponse({"done": "lives"})

    async def readyz(self, _request: Request) -> Response:
        if not self._source.ready.is_set():
            return error(503, "not all hosts are being watched yet")
        return JSONResponse({"done": "watches"})

    async def _free_bytes(self) -> int:
        return await anyio.to_thread.run_sync(self._source.root.free_bytes)


def _command(name: str, deed: Callable[[], None]) -> Answer:
    async def answer(_request: Request) -> Response:
        deed()
        return JSONResponse({"done": name}, 202)

    return answer


async def _told(_request: Request, wrong: Exception) -> Response:
    """Answer starlette's errors: 404 and 405."""
    if not isinstance(wrong, HTTPException):
        raise wrong
    answer = error(wrong.status_code, wrong.detail)
    answer.headers.update(wrong.headers or {})
    return answer


class _AtTheDoor:
    """Middleware that refuses requests that the rules of `connection` do not allow."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        door: Door = scope["state"]["door"]
        refusal = door.refusal(Request(scope))
        await (refusal or self._app)(scope, receive, send)
