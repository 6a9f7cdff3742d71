"""The API's requests and answers. `README.md` describes them for users.

The stream of events, as server-sent events: remembered ones first, then new ones, until either side ends it. A reader
that does not read for some seconds is cut off; one that misses events that were dropped from memory is notified.
"""

import json
import re
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from functools import cached_property, partial
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from harvestd.api import metrics
from harvestd.api.connection import Access, LoopbackAccess, Page, abort, error, is_of_api
from harvestd.api.series import series
from harvestd.api.state import Source, state
from harvestd.convention.structs import Immutable
from harvestd.errors import ExitCode, Fatal, HarvestError
from harvestd.telemetry.event_buffer import RECENT, BufferedEvent, Reader

if TYPE_CHECKING:
    from harvestd.documents.experiments import ExperimentReader

BEAT: Final = 15.0
"""Seconds between two keep-alives."""
SLOWEST: Final = 20.0
"""Seconds for a reader to accept what was sent."""
_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
]
_LEVELS: Final = ("debug", "info", "warning", "error", "critical")
_AT_ONCE: Final = 100


class Filter(Immutable):
    """Which events to send; an empty text: all."""

    host: str = ""
    event: str = ""
    """A glob."""
    level: str = ""
    """This level and above."""

    def __post_init__(self) -> None:
        """Raise `ValueError` for an unknown level."""
        if self.level and self.level not in _LEVELS:
            raise ValueError(f"level must be one of {', '.join(_LEVELS)}")

    def wants(self, event: BufferedEvent) -> bool:
        """Return whether an event matches."""
        told = event.fields
        if self.level and _rank(str(told.get("level"))) < _rank(self.level):
            return False
        if self.host and told.get("host") != self.host:
            return False
        return not self.event or fnmatchcase(str(told.get("event")), self.event)


def _cut() -> str:
    """Return the message for missed events, as an event with the keys that every event has."""
    now = datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
    return f"event: cut\ndata: {json.dumps({'timestamp': now, 'level': 'warning', 'event': 'events.cut'})}\n\n"


def _rank(level: str) -> int:
    return _LEVELS.index(level) if level in _LEVELS else 1


class EventStream(Response):
    """A response that streams events."""

    def __init__(self, source: Source, wanted: Filter, since: int | None, *, follow: bool) -> None:
        super().__init__()
        self._source = source
        self._wanted = wanted
        self._since = since
        self._follow = follow

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""

        async def write(content: str, *, more: bool = True) -> None:
            with anyio.fail_after(SLOWEST):
                await send({"type": "http.response.body", "body": content.encode(), "more_body": more})

        async def watch(condition: Callable[[], Awaitable[object]]) -> None:
            await condition()
            tasks.cancel_scope.cancel()

        async def leave() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        try:
            with RECENT.reader(self._since) as reader:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(watch, self._source.stopping.wait)
                    tasks.start_soon(watch, leave)
                    await self._send_events(reader, write)
                    tasks.cancel_scope.cancel()
            await write("", more=False)
        except* TimeoutError:
            await abort(scope, receive)

    async def _send_events(self, reader: Reader, write: Callable[[str], Awaitable[None]]) -> None:
        while True:
            found, lost = reader.take()
            if lost:
                await write(_cut())
            texts = [f"id: {each.number}\ndata: {each.text}\n\n" for each in found if self._wanted.wants(each)]
            for start in range(0, len(texts), _AT_ONCE):
                await write("".join(texts[start : start + _AT_ONCE]))
            if not self._follow:
                return
            with anyio.move_on_after(BEAT) as waiting:
                await reader.wait()
            if waiting.cancelled_caught:
                await write(": here\n\n")


_NUMBER: Final = re.compile(r"[0-9]{1,18}", re.ASCII)
_LONGEST_FILTER: Final = 200
_LONGEST_NAME: Final = 1_000
_DOCUMENTS: Final = 500
_MOST_DOCUMENTS: Final = 10_000
"""The number of runs or experiments in an answer: by default, and at most."""
_LIMITED: Final = f"the only parameter is limit, a number up to {_MOST_DOCUMENTS}"
_STARTING: Final = "the catalogue is being opened"
_STATUS: Final = {ExitCode.UNKNOWN_NAME: 404, ExitCode.CONFIGURATION: 400}
"""By the exit code that a command would end with."""

Answer = Callable[[Request], Awaitable[Response]]


def application(source: Source, page: Page | None = None) -> Starlette:
    """Return the application for a daemon; each request must carry its `access` in its state.

    `page` answers what is not for the API; None: it can't be shown.
    """
    requests = _Requests(source)
    commands: dict[str, Callable[[], None]] = {
        "scan": source.scan_now.ring,
        "pause": source.pause,
        "resume": source.resume,
        "reload": source.reload,
    }
    made = Starlette(
        routes=[
            Route("/v1/state", requests.state, methods=["GET"]),
            Route("/v1/hosts", requests.hosts, methods=["GET"]),
            Route("/v1/runs", requests.runs, methods=["GET"]),
            Route("/v1/runs/{id}/series", requests.series, methods=["GET"]),
            Route("/v1/experiments", requests.experiments, methods=["GET"]),
            Route("/v1/compare", requests.compare, methods=["GET"]),
            Route("/v1/events", requests.events, methods=["GET"]),
            Route("/metrics", requests.metrics, methods=["GET"]),
            Route("/healthz", requests.healthz, methods=["GET"]),
            Route("/readyz", requests.readyz, methods=["GET"]),
            *(Route(f"/v1/{name}", _command(name, action), methods=["POST"]) for name, action in commands.items()),
            Route("/v1/login", _login(source, page), methods=["POST"]),
            *([] if page else [Route("/", _without_page, methods=["GET"])]),
        ],
        middleware=[Middleware(_AccessMiddleware)],
        exception_handlers={HTTPException: _http_error},
    )
    if page is not None:
        made.router.default = _Otherwise(page, made.router.default)
    return made


class _Otherwise:
    """Passes requests at the address on loopback that are not for the API to the page."""

    def __init__(self, page: Page, unknown: ASGIApp) -> None:
        self._page = page
        self._unknown = unknown

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_for_page = isinstance(scope["state"]["access"], LoopbackAccess) and not is_of_api(Request(scope))
        await (self._page if is_for_page else self._unknown)(scope, receive, send)


_NO_PAGE: Final = "the page needs jinja2: pip install 'harvestd[page]', then restart the daemon"
_NOT_LISTENING: Final = 'the page needs an address: set listen = "127.0.0.1:8750" in [api], then restart the daemon'


async def _without_page(_request: Request) -> Response:
    return error(404, _NO_PAGE)


def _login(source: Source, page: Page | None) -> Answer:
    async def answer(_request: Request) -> Response:
        address = source.context.settings.api.listen
        if page is None or not address:
            return error(404, _NO_PAGE if address else _NOT_LISTENING)
        return JSONResponse({"done": "login", "url": f"http://{address}/login#{page.new_code()}"})

    return answer


class _Requests:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._reading = anyio.CapacityLimiter(1)
        """Limits the questions that read results, so that equal ones read a file once."""

    async def state(self, _request: Request) -> Response:
        return JSONResponse(state(self._source, await self._free_bytes()))

    async def hosts(self, _request: Request) -> Response:
        from harvestd.documents import stored  # noqa: PLC0415  (the database, which a start without requests needs later)

        return await _read(partial(stored.all_hosts, self._source.context.settings))

    async def runs(self, request: Request) -> Response:
        limit = _limit(request)
        if limit is None:
            return error(400, _LIMITED)
        from harvestd.documents import stored  # noqa: PLC0415  (the same)

        return await _read(partial(stored.all_runs, self._source.context.settings, limit))

    async def experiments(self, request: Request) -> Response:
        limit = _limit(request)
        if limit is None:
            return error(400, _LIMITED)
        if not self._source.context.catalogue_opened.is_set():
            return error(503, _STARTING)
        from harvestd.documents.experiments import all_experiments  # noqa: PLC0415  (the same)

        settings = self._source.context.settings
        return await _read(partial(all_experiments, settings, self._reader, limit), self._reading)

    async def compare(self, request: Request) -> Response:
        names = request.query_params.getlist("id")
        if request.query_params.keys() - {"id"} or any(len(name) > _LONGEST_NAME for name in names):
            return error(400, "the only parameter is id, the name of an experiment or a run, given two to eight times")
        if not self._source.context.catalogue_opened.is_set():
            return error(503, _STARTING)
        from harvestd.documents.comparison import comparison_document  # noqa: PLC0415  (the same)

        settings = self._source.context.settings
        return await _read(partial(comparison_document, settings, self._reader, names), self._reading)

    @cached_property
    def _reader(self) -> "ExperimentReader":
        from harvestd.documents.experiments import ExperimentReader  # noqa: PLC0415  (the same)
        from harvestd.report.results import ResultsReader  # noqa: PLC0415  (the same)

        return ExperimentReader(self._source.root, ResultsReader(self._source.context.evals))

    async def series(self, request: Request) -> Response:
        return await series(self._source, request)

    async def metrics(self, _request: Request) -> Response:
        return Response(metrics.metrics(self._source, await self._free_bytes()), media_type=metrics.CONTENT_TYPE)

    async def events(self, request: Request) -> Response:
        query = request.query_params
        unknown = query.keys() - {"host", "event", "level", "since", "follow"}
        if unknown or any(len(value) > _LONGEST_FILTER for value in query.values()):
            return error(400, "the parameters are host, event, level, since and follow, each a short text")
        since = query.get("since", request.headers.get("last-event-id", "")) or None
        if since is not None and not _NUMBER.fullmatch(since):
            return error(400, "since must be the number of an event")
        if query.get("follow", "1") not in {"0", "1"}:
            return error(400, "follow must be 0 or 1")
        try:
            wanted = Filter(query.get("host", ""), query.get("event", ""), query.get("level", ""))
        except ValueError as e:
            return error(400, str(e))
        number = None if since is None else int(since)
        return EventStream(self._source, wanted, number, follow=query.get("follow") != "0")

    async def healthz(self, _request: Request) -> Response:
        stuck = self._source.context.deadlines.overdue()
        return JSONResponse({"error": "a task is past its deadline"}, 503) if stuck else JSONResponse({"done": "lives"})

    async def readyz(self, _request: Request) -> Response:
        if not self._source.ready.is_set():
            return error(503, "not all hosts are being watched yet")
        return JSONResponse({"done": "watches"})

    async def _free_bytes(self) -> int:
        return await anyio.to_thread.run_sync(self._source.root.free_bytes)


def _limit(request: Request) -> int | None:
    """Return the greatest number of documents in an answer; None for a request that can't be understood."""
    limit = request.query_params.get("limit", str(_DOCUMENTS))
    if request.query_params.keys() - {"limit"} or not _NUMBER.fullmatch(limit) or int(limit) > _MOST_DOCUMENTS:
        return None
    return int(limit)


async def _read(question: Callable[[], dict[str, object]], limiter: anyio.CapacityLimiter | None = None) -> Response:
    """Answer what is read from the catalogue in a thread; 503 where it can't be read."""
    try:
        return JSONResponse(await anyio.to_thread.run_sync(question, limiter=limiter))
    except Fatal as failed:
        return error(_STATUS.get(failed.exit_code, 503), failed.with_hint)
    except HarvestError as failed:
        return error(503, str(failed))


def _command(name: str, action: Callable[[], None]) -> Answer:
    async def answer(_request: Request) -> Response:
        action()
        return JSONResponse({"done": name}, 202)

    return answer


async def _http_error(_request: Request, wrong: Exception) -> Response:
    """Answer starlette's errors: 404 and 405."""
    if not isinstance(wrong, HTTPException):
        raise wrong
    answer = error(wrong.status_code, wrong.detail)
    answer.headers.update(wrong.headers or {})
    return answer


class _AccessMiddleware:
    """Middleware that refuses requests that the rules of `connection` do not allow."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        access: Access = scope["state"]["access"]
        refusal = access.refusal(Request(scope))

        async def send_uncached(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).setdefault("cache-control", "no-store")
            await send(message)

        await (refusal or self._app)(scope, receive, send_uncached)
