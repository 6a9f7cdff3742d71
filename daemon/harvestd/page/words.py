"""Numbers, times and host texts in the words of the page. Pure, except that times are in the zone of this machine.

A space that must not break is U+00A0, minus is U+2212. Text from a host is escaped and cut here; the templates isolate
its direction (`<bdi>`) and escape it for HTML.
"""

import math
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from harvestd.telemetry.sanitize import escaped, masked

SPACE: Final = "\u00a0"
MINUS: Final = "\u2212"
DASH: Final = "\u2013"
LONGEST: Final = 300
"""Characters of a host's text that are shown; the rest is counted."""
_UNITS: Final = ("KiB", "MiB", "GiB", "TiB", "PiB")
_STEP: Final = 1024
_MINUTE: Final = 60
_HOUR: Final = 3_600
_DAY: Final = 86_400
_HUNDRED: Final = 100
_TEN: Final = 10
_SMALLEST: Final = 1e-4
_LARGEST: Final = 1e6


def size(count: int | None) -> str:
    """Return bytes in the largest unit that leaves at least one of it, with three digits at most after which it grows.

    None is a size that is not known.
    """
    if count is None:
        return "size not known"
    value, unit = float(count), "B"
    for each in _UNITS:
        if round(value, 1) < _STEP:
            break
        value, unit = value / _STEP, each
    digits = 0 if unit == "B" or value >= _HUNDRED else 1
    return f"{value:,.{digits}f}{SPACE}{unit}"


def size_of(part: int, whole: int) -> str:
    """Return how much of a file is here, such as "411 of 844 MiB", in the unit of the whole."""
    value, unit = size(whole).split(SPACE)
    power = 0 if unit == "B" else _UNITS.index(unit) + 1
    digits = len(value.partition(".")[2])
    return f"{part / _STEP**power:,.{digits}f} of {value}{SPACE}{unit}"


def duration(seconds: float | None) -> str:
    """Return a span of time in its two largest units at most, such as "2 h 23 min"."""
    if seconds is None or not math.isfinite(seconds):
        return "not known"
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole}{SPACE}s"
    if whole < _HOUR:
        return _two(whole // _MINUTE, "min", whole % _MINUTE if whole < _TEN * _MINUTE else 0, "s")
    if whole < _DAY:
        return _two(whole // _HOUR, "h", whole % _HOUR // _MINUTE, "min")
    return _two(whole // _DAY, "d", whole % _DAY // _HOUR, "h")


def _two(first: int, unit: str, second: int, smaller: str) -> str:
    rest = f" {second}{SPACE}{smaller}" if second else ""
    return f"{first}{SPACE}{unit}{rest}"


def span(seconds: float) -> str:
    """Return a span of time that grows while it is shown: in minutes at least, so that it does not change each second.

    Below a minute it is "under 1 min".
    """
    return f"under 1{SPACE}min" if seconds < _MINUTE else duration(seconds - seconds % _MINUTE)


def clock(moment: float, now: float | None = None) -> str:
    """Return the time of day of a moment (Unix time) of today, such as "07:56", and the day of any other."""
    then, today = time.localtime(moment), time.localtime(now)
    if then[:3] == today[:3]:
        return time.strftime("%H:%M", then)
    day = f"{then.tm_mday} {time.strftime('%b', then)}"
    return day if then.tm_year == today.tm_year else f"{day} {then.tm_year}"


def seconds_clock(moment: float) -> str:
    """Return a time of day with seconds."""
    return time.strftime("%H:%M:%S", time.localtime(moment))


def day_and_clock(moment: float) -> str:
    """Return a day with its time of day."""
    then = time.localtime(moment)
    return f"{then.tm_mday} {time.strftime('%b %Y, %H:%M', then)}"


def number(value: int) -> str:
    """Return a whole number with separators."""
    return f"{value:,}".replace("-", MINUS)


def figure(value: float) -> str:
    """Return a measured value with the digits that matter, such as a loss."""
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("\u221e" if value > 0 else f"{MINUS}\u221e")
    magnitude = abs(value)
    if magnitude and (magnitude < _SMALLEST or magnitude >= _LARGEST):
        text = f"{value:.2e}"
    else:
        digits = 4 if magnitude < 1 else 3 if magnitude < _TEN else 1 if magnitude < _HUNDRED * _TEN else 0
        text = f"{value:,.{digits}f}"
    return text.replace("-", MINUS)


def money(cents: int) -> str:
    """Return an amount without its currency, such as "7.97"."""
    return f"{cents // _HUNDRED:,}.{cents % _HUNDRED:02}"


def count(amount: int, noun: str, nouns: str = "") -> str:
    """Return a number with its noun; `nouns` is the noun for more than one, by default with an s."""
    return f"{number(amount)} {noun if amount == 1 else nouns or noun + 's'}"


def told(text: object, longest: int = LONGEST) -> str:
    """Return a host's text in one line without secrets, escaped, and cut with its length named."""
    whole = escaped(masked(str(text)))
    if len(whole) <= longest:
        return whole
    return f"{whole[:longest]}\u2026 ({number(len(whole))} characters)"


def headed(name: str) -> str:
    """Return a figure's name as a heading: "Pass rate", and "pass@8" as it is."""
    return name if "@" in name else name[:1].upper() + name[1:]


def listed(words: list[str]) -> str:
    """Return words as a list with "and" before the last one."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


FILTERS: Final[Mapping[str, Callable[..., Any]]] = {
    "size": size,
    "duration": duration,
    "span": span,
    "clock": clock,
    "seconds_clock": seconds_clock,
    "day_and_clock": day_and_clock,
    "number": number,
    "figure": figure,
    "money": money,
    "counted": count,
    "told": told,
    "headed": headed,
}
"""By their names in templates."""
