"""Access rules of the API, by the kind of socket.

Only the daemon's own user can connect to the Unix socket. Any user of this machine, and any web page in their browser,
can connect to loopback: the Host header must name this machine, or a page could use a name of its own (DNS rebinding);
without a token only reading is allowed; and no answer permits other origins.
"""

import hmac
import re
from typing import Final

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from harvestd.convention.structs import Immutable

_HERE: Final = re.compile(r"(?:127(?:\.[0-9]{1,3}){3}|localhost|\[::1\])(?::[0-9]{1,5})?", re.ASCII)
_READING: Final = frozenset({"GET", "HEAD"})


class OwnDoor(Immutable):
    """The Unix socket."""

    def refusal(self, request: Request) -> Response | None:  # noqa: ARG002  (as the other door's)
        """Refuse nothing."""
        return None


class LoopbackDoor(Immutable):
    """The address on loopback."""

    token: bytes | None = None

    def refusal(self, request: Request) -> Response | None:
        """Return the answer to a request that is not allowed; None: it is allowed."""
        if not _HERE.fullmatch(request.headers.get("host", "")):
            return error(421, "the Host header must name this machine")
        if self.token is None:
            if request.method in _READING:
                return None
            return error(403, "only reading is allowed here: set api.token_file, or use the socket")
        if not hmac.compare_digest(_shown(request.headers), self.token):
            return error(401, "a token is needed: `Authorization: Bearer …`")
        return None


Door = OwnDoor | LoopbackDoor


def error(status: int, why: str) -> Response:
    """Return an answer with an error's text."""
    return JSONResponse({"error": why}, status)


def _shown(headers: Headers) -> bytes:
    kind, _, token = headers.get("authorization", "").partition(" ")
    return token.strip().encode("utf-8", "surrogateescape") if kind.lower() == "bearer" else b""
