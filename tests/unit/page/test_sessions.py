"""Codes and sessions of the page: single use, expiry, bounds."""

from starlette.requests import Request

from harvestd.page.sessions import CODE_FOR, SESSION_FOR, Sessions, cookie, cookie_name


class Clock:
    """A clock that a test sets."""

    now = 1_000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


def request(secret: str = "", port: int = 8750) -> Request:
    """Return a request of a browser with this session."""
    headers = [(b"host", f"127.0.0.1:{port}".encode())]
    if secret:
        headers.append((b"cookie", f"harvestd_{port}={secret}".encode()))
    return Request({"type": "http", "method": "GET", "path": "/", "headers": headers, "query_string": b""})


def test_a_code_is_for_one_login_within_a_minute() -> None:
    """A second use, a late one and any other text log nobody in."""
    clock = Clock()
    sessions = Sessions(clock)
    code, late = sessions.new_code(), sessions.new_code()
    secret = sessions.log_in(code)
    assert secret is not None
    assert sessions.admits(request(secret))
    assert sessions.log_in(code) is None
    clock.now += CODE_FOR + 1
    assert sessions.log_in(late) is None
    assert sessions.log_in("") is None
    assert sessions.log_in("x" * 10_000) is None
    assert not sessions.admits(request(code))


def test_a_session_ends_a_while_after_its_last_request() -> None:
    """Each request renews it; another port's cookie is not this daemon's."""
    clock = Clock()
    sessions = Sessions(clock)
    secret = sessions.log_in(sessions.new_code())
    assert secret is not None
    clock.now += SESSION_FOR - 1
    assert sessions.admits(request(secret))
    clock.now += SESSION_FOR - 1
    assert sessions.admits(request(secret))
    clock.now += SESSION_FOR + 1
    assert not sessions.admits(request(secret))
    assert cookie_name(request(port=9000)) == "harvestd_9000"
    assert "harvestd_8750=x; HttpOnly; Path=/; SameSite=Strict" in cookie(request(), "x")


def test_their_number_is_bounded() -> None:
    """The oldest code and the oldest session go first."""
    sessions = Sessions(Clock())
    first = sessions.new_code()
    for _ in range(100):
        sessions.new_code()
    assert sessions.log_in(first) is None
    secrets = [sessions.log_in(sessions.new_code()) or "" for _ in range(100)]
    assert not sessions.admits(request(secrets[0]))
    assert sessions.admits(request(secrets[-1]))
