"""Who may see the page: single-use codes from the Unix socket, and the sessions that they become.

A code passes from the daemon's own user (who alone can open the socket) to a browser within a minute. The session's
secret is in a cookie that no script can read and no other site can send. Both are kept in memory only, as hashes, and
are bounded; a restart of the daemon ends all sessions.
"""

import hashlib
import secrets
import time
from collections import OrderedDict
from collections.abc import Callable
from http.cookies import SimpleCookie
from typing import Final

from starlette.requests import Request

CODE_FOR: Final = 60.0
"""Seconds for which a code can be used."""
SESSION_FOR: Final = 7 * 86_400.0
"""Seconds after its last request for which a session is kept."""
_MOST_CODES: Final = 16
_MOST_SESSIONS: Final = 64
_LONGEST_CODE: Final = 100


class _Secrets:
    """Hashes of secrets, with the moment at which each expires; the oldest goes when there are too many."""

    def __init__(self, most: int, seconds: float, clock: Callable[[], float]) -> None:
        self._most = most
        self._seconds = seconds
        self._clock = clock
        self._expiry: OrderedDict[bytes, float] = OrderedDict()

    def new(self) -> str:
        secret = secrets.token_urlsafe(32)
        self._expiry[_hash(secret)] = self._clock() + self._seconds
        while len(self._expiry) > self._most:
            self._expiry.popitem(last=False)
        return secret

    def take(self, secret: str) -> bool:
        """Return whether a secret is valid, and forget it."""
        return self._expiry.pop(_hash(secret), 0.0) > self._clock()

    def renew(self, secret: str) -> bool:
        """Return whether a secret is valid, and let it expire later."""
        is_valid = self.take(secret)
        if is_valid:
            self._expiry[_hash(secret)] = self._clock() + self._seconds
        return is_valid


class Sessions:
    """The codes and sessions of one daemon."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """`clock` returns monotonic seconds."""
        self._codes = _Secrets(_MOST_CODES, CODE_FOR, clock)
        self._sessions = _Secrets(_MOST_SESSIONS, SESSION_FOR, clock)

    def new_code(self) -> str:
        """Return a code for one login."""
        return self._codes.new()

    def log_in(self, code: str) -> str | None:
        """Return the secret of a new session for a valid code, which can't be used again; None for any other text."""
        if len(code) > _LONGEST_CODE or not self._codes.take(code):
            return None
        return self._sessions.new()

    def admits(self, request: Request) -> bool:
        """Return whether a request belongs to a session."""
        secret = request.cookies.get(cookie_name(request), "")
        return bool(secret) and self._sessions.renew(secret)


def cookie_name(request: Request) -> str:
    """Return the name of the session's cookie: with the port, since cookies of one address are shared by its ports."""
    return f"harvestd_{request.url.port or 80}"


def cookie(request: Request, secret: str) -> str:
    """Return the header that sets the session's cookie."""
    made: SimpleCookie = SimpleCookie()
    name = cookie_name(request)
    made[name] = secret
    made[name]["path"] = "/"
    made[name]["httponly"] = True
    made[name]["samesite"] = "Strict"
    return made[name].OutputString()


def _hash(secret: str) -> bytes:
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).digest()
