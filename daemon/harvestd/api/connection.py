"""One connection to the API, with checks of its peer and its duration. uvicorn's protocol implements HTTP.

A connection serves one request, so its deadline is also the request's: a client that sends slowly, or nothing, is cut
off. A connection of another user to the Unix socket is dropped without an answer. Invalid input ends the connection,
never the daemon.

Access rules of the API, by the kind of socket. Only the daemon's own user can connect to the Unix socket. Any user of
this machine, and any web page in their browser, can connect to loopback: the Host header must name this machine, or a
page could use a name of its own (DNS rebinding); without a token only reading is allowed; and no answer permits other
origins.
"""

import asyncio
import hmac
import os
import re
import socket
import struct
from typing import Any, Final, Protocol

import h11
from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.h11_impl import H11Protocol

from harvestd.convention.structs import Immutable

TIMEOUT: Final = 10.0
"""Seconds for the complete head of a request to arrive."""
MOST: Final = 64
"""Simultaneous connections; beyond twice as many they are dropped without an answer."""
_UCRED: Final = struct.Struct("=iII")
_ABORT: Final = "harvestd.abort"


class Connection(H11Protocol):
    """Serves one request."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401  (uvicorn's own, handed on)
        super().__init__(*args, **kwargs)
        self.app = self._guarded(self.app)
        self._deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn's own
        """Accept a connection, or drop it at once."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(TIMEOUT, self._too_late)
        if len(self.connections) > 2 * MOST or not _is_own(transport.get_extra_info("socket")):
            transport.abort()

    def data_received(self, data: bytes) -> None:
        """Process received data; data after the request is not read."""
        if self.cycle is not None and self.conn.their_state in {h11.DONE, h11.MUST_CLOSE, h11.CLOSED}:
            self.flow.pause_reading()
            return
        try:
            super().data_received(data)
        except h11.LocalProtocolError:  # no answer is possible
            self.transport.abort()

    def connection_lost(self, exc: Exception | None) -> None:
        """Cancel the deadline."""
        if self._deadline is not None:
            self._deadline.cancel()
        super().connection_lost(exc)

    def shutdown(self) -> None:
        """End at once."""
        self.transport.abort()

    def _too_late(self) -> None:
        if self.cycle is None or self.transport.is_closing():
            self.transport.abort()

    def _guarded(self, app: ASGIApp) -> ASGIApp:
        async def guarded(scope: Scope, receive: Receive, send: Send) -> None:
            scope[_ABORT] = self.transport.abort
            try:
                await app(scope, receive, send)
            except h11.LocalProtocolError:
                await abort(scope, receive)

        return guarded


async def abort(scope: Scope, receive: Receive) -> None:
    """Drop a connection with all unsent data, and return once it has ended."""
    scope[_ABORT]()
    while (await receive())["type"] != "http.disconnect":
        pass


def _is_own(peer: socket.socket) -> bool:
    """Return whether the peer is the daemon's own user, or root; on loopback this is unknown and counts as True."""
    if peer.family != socket.AF_UNIX:
        return True
    _, user, _ = _UCRED.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size))
    return user in {os.geteuid(), 0}


_HERE: Final = re.compile(r"(?:127(?:\.[0-9]{1,3}){3}|localhost|\[::1\])(?::[0-9]{1,5})?", re.ASCII)
_READING: Final = frozenset({"GET", "HEAD"})
_OF_THE_API: Final = re.compile(r"/(?:v1(?:/.*)?|metrics|healthz|readyz)", re.DOTALL)


class UnixSocketAccess(Immutable):
    """The Unix socket."""

    def refusal(self, request: Request) -> Response | None:  # noqa: ARG002  (as the other class's)
        """Refuse nothing."""
        return None


class Page(Protocol):
    """The page (`harvestd.page`): an application for all requests that are not for the API."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or refuse it."""

    def has_session(self, request: Request) -> bool:
        """Return whether the page sent a request, in a browser that is logged in: it may read without a token."""
        ...

    def new_code(self) -> str:
        """Return a code for one login."""
        ...


class LoopbackAccess(Immutable):
    """The address on loopback, where the page is as well; the page itself decides on requests for it."""

    token: bytes | None = None
    page: "Page | None" = None

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that is not allowed; None: it is allowed."""
        if not _HERE.fullmatch(request.headers.get("host", "")):
            return error(421, "the Host header must name this machine")
        if self.page is not None:
            if not is_of_api(request):
                return None
            if request.method in _READING and self.page.has_session(request):
                return None
        if self.token is None:
            if request.method in _READING:
                return None
            return error(403, "only reading is allowed here: set api.token_file, or use the socket")
        if not hmac.compare_digest(_shown(request.headers), self.token):
            return error(401, "a token is needed: `Authorization: Bearer …`")
        return None


Access = UnixSocketAccess | LoopbackAccess


def is_of_api(request: Request) -> bool:
    """Return whether a request is for the API, rather than for the page beside it."""
    return _OF_THE_API.fullmatch(request.url.path) is not None


def error(status: int, why: str) -> Response:
    """Return an answer with an error's text."""
    return JSONResponse({"error": why}, status)


def _shown(headers: Headers) -> bytes:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip().encode("utf-8", "surrogateescape") if kind.lower() == "bearer" else b""
