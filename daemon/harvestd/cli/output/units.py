"""Format sizes, spans of time and ages for people."""

import time
from typing import Final

_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")
_STEP: Final = 1024
_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 86_400
_SOON: Final = 10.0
"""Seconds below which a tenth is shown."""
NOTHING: Final = "-"
"""The text of a table's cell without a value."""


def size(count: int | None) -> str:
    """Return bytes in the largest unit that leaves at least one of it; None is an unknown size."""
    if count is None:
        return "unknown"
    if count < _STEP:
        return f"{count} B"
    value = float(count)
    unit = "B"
    for each in _UNITS:
        value, unit = value / _STEP, each
        # 1023.96 would be written as 1024.0.
        if round(value, 1) < _STEP:
            break
    return f"{value:.1f} {unit}"


def duration(seconds: float | None) -> str:
    """Return a span of time in its two largest units."""
    if seconds is None:
        return NOTHING
    if seconds < _SOON:
        return f"{seconds:.1f}s"
    whole = round(seconds)
    if whole < _MINUTE:
        return f"{whole}s"
    if whole < _HOUR:
        return f"{whole // _MINUTE}m{whole % _MINUTE:02}s"
    if whole < _DAY:
        return f"{whole // _HOUR}h{whole % _HOUR // _MINUTE:02}m"
    return f"{whole // _DAY}d{whole % _DAY // _HOUR:02}h"


def age(moment: float | None) -> str:
    """Return how long ago a moment (Unix time) was; None: never."""
    if moment is None:
        return "never"
    passed = time.time() - moment
    if passed < 1:
        return "just now"
    return f"{int(passed)}s ago" if passed < _MINUTE else f"{duration(passed)} ago"


def count(number: int, noun: str) -> str:
    """Return a number with its noun, which takes an s for more than one."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
