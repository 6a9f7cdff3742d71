"""The page as an application: its views, its actions, the login and its stream of changes.

`VIEWS` has each view's URL, its template and the function that returns the template's values. A view is rendered as a
whole document, or, for a request with the header `X-Harvestd-Part`, as its title and its main element alone: the
script replaces with that what it shows.
"""

import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from typing import Final
from urllib.parse import parse_qs

import anyio.to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from harvestd import __version__
from harvestd.api.state import Source
from harvestd.convention.structs import Immutable
from harvestd.errors import HarvestError
from harvestd.page import events, fleet, host, words
from harvestd.page.assets import Assets
from harvestd.page.experiments import compared, one, table
from harvestd.page.guard import LOGIN, Guard, is_from_here
from harvestd.page.live import Changes, ChangeStream, Renderings
from harvestd.page.run import view
from harvestd.page.sessions import Sessions, cookie
from harvestd.planning.requests import RequestKind
from harvestd.telemetry.sanitize import escaped

Values = Mapping[str, object]
"""The values of a template, by their names in it."""


class View(Immutable):
    """One view."""

    template: str
    values: Callable[[Source, Request], Awaitable[Values]]
    """Returns the template's values; raises `HTTPException` (404) where there is no such thing."""
    section: str
    """The entry of the bar that it belongs to."""
    is_long: bool = False
    """Whether it may have hundreds of rows: then its template is filled in a thread, to keep the event loop free."""


VIEWS: Final = {
    "/": View("fleet.html", fleet.values, "fleet"),
    "/hosts/{name}": View("host.html", host.values, "fleet"),
    "/runs/{id}": View("run.html", view.values, "fleet"),
    "/experiments": View("experiments.html", table.values, "experiments", is_long=True),
    "/experiments/{id}": View("experiment.html", one.values, "experiments", is_long=True),
    "/compare": View("compare.html", compared.values, "experiments", is_long=True),
    "/events": View("events.html", events.values, "events"),
}
SECTIONS: Final = (
    ("fleet", "/", "Fleet"),
    ("experiments", "/experiments", "Experiments"),
    ("events", "/events", "Events"),
)
"""The bar: the section's name, its URL and its text."""
_PART: Final = "x-harvestd-part"
_LONGEST_URL: Final = 2_000
_LARGEST_FORM: Final = 4_096


class Site:
    """The page of one daemon."""

    def __init__(self, source: Source) -> None:
        self._source = source
        self._assets = Assets()
        self._sessions = Sessions()
        self._changes = Changes(source)
        self._renderings = Renderings(self._changes)
        actions: dict[str, Callable[[Request], Awaitable[None]]] = {
            "/scan": self._scan,
            "/pause": self._pause,
            "/resume": self._resume,
            "/hosts/{name}/verdict": self._renew_verdict,
        }
        self._app = Starlette(
            routes=[
                Route(LOGIN, self._login_page, methods=["GET"]),
                Route(LOGIN, self._log_in, methods=["POST"]),
                Route("/changes", self._stream, methods=["GET"]),
                Route("/static/{version}/{name:path}", self._assets.answer, methods=["GET"]),
                Route("/experiments/{id}/pictures/{name}", partial(one.picture, source), methods=["GET"]),
                *(Route(path, self._shown(view), methods=["GET"]) for path, view in VIEWS.items()),
                *(Route(path, _done(action), methods=["POST"]) for path, action in actions.items()),
            ],
            middleware=[Middleware(Guard, sessions=self._sessions)],
            exception_handlers={HTTPException: self._error},
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

    def has_session(self, request: Request) -> bool:
        """Return whether the page sent a request, in a browser that is logged in."""
        site = request.headers.get("sec-fetch-site", "")
        return is_from_here(site, is_reading=True) and self._sessions.admits(request)

    def new_code(self) -> str:
        """Return a code for one login."""
        return self._sessions.new_code()

    def _shown(self, view: View) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            url = str(request.url.replace(scheme="", netloc=""))
            if len(url) > _LONGEST_URL:
                raise HTTPException(414, "the address is too long")
            is_part = _PART in request.headers

            async def render() -> str:
                try:
                    values = await view.values(self._source, request)
                except HarvestError as error:  # the disk or the catalogue fails, which events report too
                    raise HTTPException(503, words.told(error)) from error
                fill = partial(self._render, view.template, values, section=view.section, url=url, is_part=is_part)
                return await anyio.to_thread.run_sync(fill) if view.is_long else fill()

            if not is_part:
                return HTMLResponse(await render())
            rendered = await self._renderings.get(url, render)
            headers = {"etag": rendered.etag}
            if request.headers.get("if-none-match") == rendered.etag:
                return Response(status_code=304, headers=headers)
            return Response(rendered.body, headers=headers, media_type="text/html; charset=utf-8")

        return answer

    def _render(self, template: str, values: Values, *, section: str, url: str = "/", is_part: bool = False) -> str:
        context = self._source.context
        frame = {
            "layout": "part.html" if is_part else "base.html",
            "section": section,
            "back": url,
            "sections": SECTIONS,
            "paused": context.fleet.is_paused,
            "now": time.time(),
            "version": __version__,
            "data_root": escaped(str(context.settings.data_root)),
            "zone": time.strftime("%Z"),
        }
        return self._assets.render(template, {**frame, **values})

    async def _login_page(self, _request: Request) -> Response:
        return self._login("", 200)

    async def _log_in(self, request: Request) -> Response:
        form = await _form(request)
        secret = self._sessions.log_in(form.get("code", "").strip())
        if secret is None:
            return self._login("That code was used already, or is older than a minute.", 403)
        return RedirectResponse("/", 303, headers={"set-cookie": cookie(request, secret)})

    def _login(self, problem: str, status: int) -> Response:
        return HTMLResponse(self._assets.render("login.html", {"problem": problem}), status)

    async def _stream(self, _request: Request) -> Response:
        return ChangeStream(self._source, self._changes)

    async def _scan(self, _request: Request) -> None:
        self._source.scan_now.ring()

    async def _pause(self, _request: Request) -> None:
        self._source.pause()

    async def _resume(self, _request: Request) -> None:
        self._source.resume()

    async def _renew_verdict(self, request: Request) -> None:
        """Request a verdict with a full scan, as `harvestd safe` does; the answer appears when it is there."""
        from harvestd.catalogue.requests import record_request  # noqa: PLC0415  (the database, once it is needed)

        found = host.present(self._source, request.path_params["name"])
        if found is None:
            raise HTTPException(404, "no host is called so")
        key, settings = (found.identity, found.name), self._source.context.settings
        await anyio.to_thread.run_sync(record_request, settings.state, RequestKind.JUDGE, key, {})

    async def _error(self, request: Request, error: Exception) -> Response:
        if not isinstance(error, HTTPException):
            raise error
        if request.method == "POST":
            return JSONResponse({"error": error.detail}, error.status_code, headers=error.headers)
        values = {"status": error.status_code, "detail": error.detail}
        text = self._render("error.html", values, section="")
        return HTMLResponse(text, error.status_code, headers=error.headers)


def _done(action: Callable[[Request], Awaitable[None]]) -> Callable[[Request], Awaitable[Response]]:
    """Return what answers a POST: with the view that the form was on, or, for the script, with nothing."""

    async def answer(request: Request) -> Response:
        form = await _form(request)
        await action(request)
        back = form.get("back", "/")
        is_here = back.startswith("/") and not back.startswith(("//", "/\\"))
        return (
            Response(status_code=204) if _PART in request.headers else RedirectResponse(back if is_here else "/", 303)
        )

    return answer


async def _form(request: Request) -> dict[str, str]:
    """Return the fields of a small form."""
    content = bytearray()
    async for piece in request.stream():
        content += piece
        if len(content) > _LARGEST_FORM:
            raise HTTPException(413, "the form is too large")
    fields = parse_qs(content.decode("utf-8", "replace"), max_num_fields=10)
    return {name: values[0] for name, values in fields.items()}
