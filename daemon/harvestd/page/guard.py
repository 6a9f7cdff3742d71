"""What every request for the page must fulfil, and the headers that every answer carries.

The API checks the Host header before (`api/connection.py`), so that no other site's name leads here. A browser says in
`Sec-Fetch-Site` where a request comes from: only the page itself may send one, a person may open a view by hand, and
only the page may change anything. Everything but the login page needs a session.
"""

from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from harvestd.page.sessions import Sessions

HEADERS: Final = {
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Beside them the server sends `x-content-type-options: nosniff` with all of its answers."""
LOGIN: Final = "/login"
STATIC: Final = "/static/"
_READING: Final = frozenset({"GET", "HEAD"})


class Guard:
    """Middleware that refuses requests of other sites and requests without a session."""

    def __init__(self, app: ASGIApp, sessions: Sessions) -> None:
        """Protect `app`."""
        self._app = app
        self._sessions = sessions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers.setdefault(name, value)
            await send(message)

        refusal = self._refusal(Request(scope))
        await (refusal or self._app)(scope, receive, send_with_headers)

    def _refusal(self, request: Request) -> Response | None:
        path = request.url.path
        is_reading = request.method in _READING
        # The login page holds no data, and a link in a terminal or in a mail may lead to it.
        if path == LOGIN and is_reading:
            return None
        if not is_from_here(request.headers.get("sec-fetch-site", ""), is_reading=is_reading):
            return PlainTextResponse("another site must not request this\n", 403)
        if path == LOGIN or path.startswith(STATIC) or self._sessions.admits(request):
            return None
        if is_reading and request.headers.get("sec-fetch-mode", "navigate") == "navigate":
            return RedirectResponse(LOGIN, 303)
        return PlainTextResponse("log in first: run `harvestd open`\n", 401)


def is_from_here(site: str, *, is_reading: bool) -> bool:
    """Return whether the page itself sent a request, or a person by hand; `site`: of `Sec-Fetch-Site`.

    A program that is no browser sends no such header: it may read, with a session.
    """
    return site == "same-origin" or (is_reading and site in {"none", ""})
