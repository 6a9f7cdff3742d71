"""Parse durations, sizes and rates in the operator's form: "1h30m", "5GiB", "50MiB/s".

Each function takes a value of a file or a variable and raises `ValueError` with a plain sentence. A value without a
unit is refused where several units would make sense: "10" is no duration.
"""

import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Annotated

from pydantic import AfterValidator, BeforeValidator

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


def _told(value: object) -> str:
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
        raise ValueError(f"{_told(value)} is no duration: write one {example}")
    parts = _DURATION_PART.findall(text)
    steps = [_MILLISECONDS[unit] for _, unit in parts]
    if any(later >= earlier for earlier, later in pairwise(steps)):
        raise ValueError(f"{_told(value)} is no duration: the units go from the largest to the smallest")
    milliseconds = sum((Decimal(number) * step for (number, _), step in zip(parts, steps, strict=True)), Decimal(0))
    if milliseconds > _LONGEST // timedelta(milliseconds=1):
        raise ValueError(f"{_told(value)} is longer than ten years")
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
            raise ValueError(f"{_told(value)} is no size: write one {example}")
        size = int(Decimal(match[1]) * _BYTES[match[2]])
    if not 0 <= size <= _MOST_BYTES:
        raise ValueError(f"{_told(value)} is out of range: write a size {example}")
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
            raise ValueError(f'{_told(value)} is no rate: write "50MiB/s" or "{UNLIMITED}"') from None
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

Patience = Annotated[Duration, AfterValidator(within("0s", "7d"))]
"""How long a state must last before it is acted on."""

Size = Annotated[int, BeforeValidator(size_from)]
"""Bytes, such as "5GiB"."""

Rate = Annotated[int | None, BeforeValidator(rate_from)]
"""Bytes a second, such as "50MiB/s"; None: unlimited."""
