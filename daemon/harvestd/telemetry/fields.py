"""What becomes of an event's fields before they are rendered: plain, bounded, escaped, and without secrets.

Structlog processors, in the order of `PROCESSORS`. A field may be anything a room has at hand: a path object, a span of
time, a nested mapping. What leaves here is JSON's own kinds of value, with every text safe to show (promise I6).
"""

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from typing import Any

from structlog.processors import ExceptionRenderer, add_log_level
from structlog.typing import EventDict, WrappedLogger

from harvestd.telemetry.escaping import escaped

HIDDEN = "[hidden]"
LONGEST_TEXT = 8_192
"""Characters of one text; beyond that it is cut. Longer than any path can be."""
MOST_ITEMS = 256
"""Of one list or mapping; the rest is counted."""
DEEPEST = 6

_SECRET = re.compile(r"token|secret|api_?key|passw|passphrase|authorization|private_key|jupyter_url", re.IGNORECASE)
_FIRST_KEYS = ("timestamp", "level", "event")


def plain(value: object, depth: int = 0) -> object:
    """Give `value` as JSON's own kinds: texts escaped and cut, spans of time as seconds, secrets hidden by their keys.

    Bytes are taken for a name in a file system; an object of any other class gives its `str`.
    """
    match value:
        case None | bool():
            return value
        case Enum():
            return plain(value.value, depth)
        case int():
            return int(value)
        case float() if math.isfinite(value):
            return value
        case timedelta():
            return value.total_seconds()
        case str() | bytes() | float() | datetime() | BaseException():
            return _text(_worded(value))
        case _:
            return _structured(value, depth)


def _worded(value: str | bytes | float | datetime | BaseException) -> str:
    match value:
        case bytes():
            return value.decode("utf-8", "surrogateescape")
        case datetime() if value.tzinfo is not None:
            return value.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
        case BaseException():
            return f"{type(value).__name__}: {value}"
        case _:
            return str(value)


def _structured(value: object, depth: int) -> object:
    if depth < DEEPEST:
        # A path of ours is a dataclass too, but one that says how it is written.
        if is_dataclass(value) and not isinstance(value, type) and type(value).__str__ is object.__str__:
            return _mapping({each.name: getattr(value, each.name) for each in fields(value)}, depth)
        if isinstance(value, Mapping):
            return _mapping(value, depth)
        if isinstance(value, set | frozenset):
            return _items(sorted(value, key=str), depth)
        if isinstance(value, Sequence):
            return _items(value, depth)
    return _text(str(value))


def _text(text: str) -> str:
    if len(text) > LONGEST_TEXT:
        return f"{escaped(text[:LONGEST_TEXT])} … ({len(text) - LONGEST_TEXT} more characters)"
    return escaped(text)


def _items(values: Sequence[object], depth: int) -> list[object]:
    items = [plain(value, depth + 1) for value in values[:MOST_ITEMS]]
    return items if len(values) <= MOST_ITEMS else [*items, f"… ({len(values) - MOST_ITEMS} more)"]


def _mapping(named: Mapping[Any, object], depth: int) -> dict[str, object]:
    told: dict[str, object] = {}
    for key, value in named.items():
        name = _text(str(key))
        if len(told) == MOST_ITEMS:
            told["…"] = f"({len(named) - MOST_ITEMS} more)"
            break
        if _SECRET.search(name):
            told[name] = HIDDEN
        elif isinstance(value, timedelta) and not name.endswith("_seconds"):
            told[f"{name}_seconds"] = value.total_seconds()
        else:
            told[name] = plain(value, depth + 1)
    return told


def with_timestamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add when it happened, RFC 3339 in UTC with microseconds, unless the event says so itself."""
    event.setdefault("timestamp", datetime.now(UTC))
    return event


def with_exception_lines(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Turn a traceback into a list of lines: so each can be escaped and an event stays one line."""
    trace = event.get("exception")
    if isinstance(trace, str):
        event["exception"] = trace.splitlines()[-MOST_ITEMS:]
    return event


def made_plain(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Apply `plain` to all fields and put the common ones first."""
    told = _mapping(event, 0)
    return {key: told[key] for key in _in_order(told)}


def _in_order(keys: Iterable[str]) -> list[str]:
    every = list(keys)
    return [key for key in _FIRST_KEYS if key in every] + [key for key in every if key not in _FIRST_KEYS]


PROCESSORS: tuple[Callable[[WrappedLogger, str, EventDict], EventDict], ...] = (
    add_log_level,
    with_timestamp,
    ExceptionRenderer(),
    with_exception_lines,
    made_plain,
)
"""What every event goes through, whatever renders it."""
