"""The types of text in settings: names, addresses, paths. Each is checked when a value is loaded.

A checked text can go into a directory's name, a log line or an SSH call unchanged. The checks raise `ValueError` with a
plain sentence; none of them accesses the file system.

Parse durations, sizes and rates in the operator's form: "1h30m", "5GiB", "50MiB/s". Each function takes a value of a
file or a variable and raises `ValueError` with a plain sentence. A value without a unit is refused where several
units would make sense: "10" is no duration.
"""

import ipaddress
import re
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path, PurePosixPath
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,62}")
_EXPERIMENT = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_JUMP = re.compile(r"(?:(?P<user>[^@\s,]+)@)?(?P<host>\[[^\],]+\]|[^:@\[\],]+)(?::(?P<port>[0-9]{1,5}))?")
_ADDRESS_AND_PORT = re.compile(r"(?:\[(?P<bracketed>[^\]]+)\]|(?P<host>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")
_HIGHEST_PORT = 65_535


def _host_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        raise ValueError("must be 1 to 63 letters, digits, dots, dashes or underscores, the first a letter or digit")
    return value


def _experiment_name(value: str) -> str:
    if not _EXPERIMENT.fullmatch(value):
        raise ValueError(
            "must be usable in a directory's name: 1 to 100 letters, digits, dots, dashes or underscores, "
            "the first neither a dot nor a dash"
        )
    return value


def _plain(value: str) -> str:
    if not value:
        raise ValueError("must not be empty")
    if not value.isprintable():
        raise ValueError("must not hold control characters")
    return value


def _user(value: str) -> str:
    if value.startswith("-") or any(c.isspace() or c in "@:/" for c in _plain(value)):
        raise ValueError("must be a user's name on the box, without spaces, '@', ':' or '/'")
    return value


def _address(value: str) -> str:
    try:
        # An IPv6 address may end in the name of an interface, which may be any text.
        ipaddress.ip_address(_plain(value))
    except ValueError:
        if "@" in value:
            raise ValueError("must be an address alone: the user goes into 'user'") from None
        if ":" in value:
            raise ValueError("must be an address alone: the port goes into 'port'") from None
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,252}", value):
            raise ValueError("must be an IP address or a host's name") from None
    return value


def address_and_port(value: str) -> tuple[str, int | None]:
    """Split "address", "address:port" or "[address]:port"; None: there is no port. Raise `ValueError`."""
    with suppress(ValueError):
        return str(ipaddress.IPv6Address(_plain(value))), None
    match = _ADDRESS_AND_PORT.fullmatch(value)
    if match is None or not 0 < int(match["port"] or 22) <= _HIGHEST_PORT:
        raise ValueError('must be "address" or "address:port"; an IPv6 address with a port stands in brackets')
    return _address(match["bracketed"] or match["host"]), int(match["port"]) if match["port"] else None


def _proxy_jump(value: str) -> str:
    for hop in value.split(",") if value else ():
        match = _JUMP.fullmatch(hop.strip())
        if match is None or not 0 < int(match["port"] or 22) <= _HIGHEST_PORT:
            raise ValueError(
                'must be a host as "user@host:port", or several with commas; user and port may be left out'
            )
        _address(match["host"].strip("[]"))
        if match["user"]:
            _user(match["user"])
    return value


def _root(value: str) -> str:
    path = PurePosixPath(_plain(value))
    if not path.is_absolute():
        raise ValueError("must be an absolute path on the box ('~' means nothing there)")
    if ".." in path.parts:
        raise ValueError("must not hold '..'")
    return str(path).replace("//", "/", 1) if str(path).startswith("//") else str(path)


def _at_least_one(value: tuple[str, ...]) -> tuple[str, ...]:
    if not value:
        raise ValueError("must hold at least one root")
    return value


def _directory(value: str) -> str:
    path = PurePosixPath(_plain(value))
    if path.is_absolute() or ".." in path.parts or not path.parts:
        raise ValueError("must be a plain name relative to the roots, such as \"training_runs\", without '..'")
    return str(path)


def _base_url(value: str) -> str:
    try:
        url = urlsplit(_plain(value))
        host, _ = url.hostname or "", url.port
    except ValueError:
        raise ValueError("must be a URL") from None
    if url.username or url.password or url.query or url.fragment:
        raise ValueError("must be a URL without a user, a password, a query or a fragment")
    if not host or url.scheme not in {"http", "https"}:
        raise ValueError('must be a URL such as "https://cloud.lambda.ai/api/v1"')
    if url.scheme == "http" and host not in {"localhost", "127.0.0.1", "::1"}:
        raise ValueError("must begin with https://: the API key travels with each request")
    return value.rstrip("/")


def _own_path(value: object) -> object:
    if not isinstance(value, str | Path):
        raise ValueError("must be a path in quotes")  # noqa: TRY004 - pydantic collects ValueErrors
    text = str(value)
    if not text or "\0" in text:
        raise ValueError("must be a path, neither empty nor holding NUL")
    try:
        return Path(text).expanduser().absolute()
    except RuntimeError:
        raise ValueError("begins with '~', and no such home directory is known") from None


def _loopback(value: str) -> str:
    if not value:
        return value
    address, port = address_and_port(value)
    try:
        is_ours = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_ours = False
    if not is_ours or port is None:
        raise ValueError('must be an address of this machine alone with a port, such as "127.0.0.1:8750", or empty')
    return value


HostName = Annotated[str, AfterValidator(_host_name)]
"""The operator's name for a host."""

ExperimentName = Annotated[str, AfterValidator(_experiment_name)]
"""The first part of an experiment's directory."""

HardwareName = Annotated[str, AfterValidator(_host_name)]
"""A host's hardware in the form of directory names, such as "8x_h100"."""

UserName = Annotated[str, AfterValidator(_user)]
"""The user to log in as on a host."""

Address = Annotated[str, AfterValidator(_address)]
"""An IP address or a host's name; also an alias of an OpenSSH configuration file."""

ProxyJump = Annotated[str, AfterValidator(_proxy_jump)]
"""Jump hosts on the way to a host, "user@host:port", the first one first; empty: none."""

Root = Annotated[str, AfterValidator(_root)]
"""An absolute directory on a host."""

Roots = Annotated[tuple[Root, ...], AfterValidator(_at_least_one)]
"""Directories on a host that hold the trees."""

Directory = Annotated[str, AfterValidator(_directory)]
"""A directory below the roots of a host, "a" or "a/b"."""

Loopback = Annotated[str, AfterValidator(_loopback)]
"""An address that only this machine reaches, with a port; empty: none."""

Plain = Annotated[str, AfterValidator(_plain)]
"""Any text without control characters, not empty."""

BaseUrl = Annotated[str, AfterValidator(_base_url)]
"""The URL of a cloud's API; https, or this machine."""

OwnPath = Annotated[Path, BeforeValidator(_own_path)]
"""A path on this machine, absolute once loaded; `~` is expanded, a relative one starts at the working directory.

The loader first makes those of a file relative to that file.
"""


_MILLISECONDS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000, "w": 604_800_000}
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(ms|s|m|h|d|w)\s*")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")

_BYTES = {
    "": 1,
    "B": 1,
    **{f"{letter}B": 1_000**power for power, letter in enumerate("KMGTP", start=1)},
    **{f"{letter}iB": 1_024**power for power, letter in enumerate("KMGTP", start=1)},
    "kB": 1_000,
}
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)")

UNLIMITED = "unlimited"
_MOST_BYTES = 2**63 - 1
_LONGEST = timedelta(days=3_650)


_SHORT = 16


def _shown(value: object) -> str:
    """Return a value for an error's text, unless it is so long that it may be a secret on a wrong line."""
    return repr(value) if len(str(value)) <= _SHORT else "this"


def duration_from(value: object) -> timedelta:
    """Return the duration of a text such as "10s", "15m", "1h30m" or "2d"; raise `ValueError`.

    Units are ordered from the largest to the smallest, each at most once.
    """
    if isinstance(value, timedelta):
        return value
    example = 'such as "10s", "15m", "1h30m" or "2d"'
    if not isinstance(value, str):
        raise ValueError(f"must be a duration in quotes, {example}")  # noqa: TRY004 - pydantic collects ValueErrors
    text = value.strip()
    if not _DURATION.fullmatch(text):
        raise ValueError(f"{_shown(value)} is no duration: write one {example}")
    parts = _DURATION_PART.findall(text)
    steps = [_MILLISECONDS[unit] for _, unit in parts]
    if any(later >= earlier for earlier, later in pairwise(steps)):
        raise ValueError(f"{_shown(value)} is no duration: the units go from the largest to the smallest")
    milliseconds = sum((Decimal(number) * step for (number, _), step in zip(parts, steps, strict=True)), Decimal(0))
    if milliseconds > _LONGEST // timedelta(milliseconds=1):
        raise ValueError(f"{_shown(value)} is longer than ten years")
    return timedelta(microseconds=int(milliseconds * 1_000))


def size_from(value: object) -> int:
    """Return a size in bytes from a whole number or a text such as "5GiB", "50MiB" or "1.5GB"; raise `ValueError`."""
    example = 'such as "5GiB", "1.5GB" or a whole number of bytes'
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(f"must be a size, {example}")  # noqa: TRY004 - as above
    if isinstance(value, int):
        size = value
    else:
        match = _SIZE.fullmatch(value.strip())
        if match is None or match[2] not in _BYTES:
            raise ValueError(f"{_shown(value)} is no size: write one {example}")
        size = int(Decimal(match[1]) * _BYTES[match[2]])
    if not 0 <= size <= _MOST_BYTES:
        raise ValueError(f"{_shown(value)} is out of range: write a size {example}")
    return size


def rate_from(value: object) -> int | None:
    """Return a rate in bytes a second from "50MiB/s"; None for "unlimited". Raise `ValueError`."""
    if value is None or value == UNLIMITED:
        return None
    if isinstance(value, int) and not isinstance(value, bool):
        rate = value
    else:
        try:
            rate = size_from(value.strip().removesuffix("/s")) if isinstance(value, str) else 0
        except ValueError:
            raise ValueError(f'{_shown(value)} is no rate: write "50MiB/s" or "{UNLIMITED}"') from None
    if rate <= 0:
        raise ValueError(f'must be a rate above zero such as "50MiB/s", or "{UNLIMITED}"')
    return rate


def within(shortest: str, longest: str) -> Callable[[timedelta], timedelta]:
    """Return a check that a duration is between two others, both allowed."""
    low, high = duration_from(shortest), duration_from(longest)

    def check(value: timedelta) -> timedelta:
        if not low <= value <= high:
            raise ValueError(f"must be between {shortest} and {longest}")
        return value

    return check


def at_least(smallest: str) -> Callable[[int], int]:
    """Return a check that a size is not below another."""
    low = size_from(smallest)

    def check(value: int) -> int:
        if value < low:
            raise ValueError(f"must be at least {smallest}")
        return value

    return check


Duration = Annotated[timedelta, BeforeValidator(duration_from)]
"""A span of time, such as "10s"."""

Pause = Annotated[Duration, AfterValidator(within("1s", "1h"))]
"""A pause between two polls: neither a busy loop nor endless."""

Deadline = Annotated[Duration, AfterValidator(within("1s", "5m"))]
"""How long to wait for an answer."""

Span = Annotated[Duration, AfterValidator(within("5s", "1d"))]
"""How long a host may take for an operation."""

WaitTime = Annotated[Duration, AfterValidator(within("0s", "7d"))]
"""How long a state must last before it is acted on."""

Size = Annotated[int, BeforeValidator(size_from)]
"""Bytes, such as "5GiB"."""

Rate = Annotated[int | None, BeforeValidator(rate_from)]
"""Bytes a second, such as "50MiB/s"; None: unlimited."""
