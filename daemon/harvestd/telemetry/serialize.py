"""Convert an event's fields before they are rendered: plain, bounded, escaped, and without secrets.

Structlog processors, in the order of `PROCESSORS`. A field may be any object: a path, a span of time, a nested mapping.
The results are JSON values, with every text safe to display.
"""

import math
import re
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum, StrEnum
from functools import lru_cache
from itertools import islice
from typing import Any

from msgspec import Struct
from structlog.processors import ExceptionRenderer, add_log_level
from structlog.typing import EventDict, WrappedLogger

from harvestd.telemetry.sanitize import HIDDEN, escaped, masked

LONGEST_TEXT = 8_192
"""Characters of one text; a longer one is cut. Longer than any path can be."""
MOST_ITEMS = 256
"""Of one list or mapping; the rest is counted."""
DEEPEST = 6
_SECOND = 1_000_000_000
_SHORT = 20
"""Characters of a text that probably repeats: a level, an event's name, a host."""

_SECRET = re.compile(r"token|secret|api_?key|passw|passphrase|authorization|private_key|jupyter_url", re.IGNORECASE)
_FIRST_KEYS = ("timestamp", "level", "event")


def plain(value: object, depth: int = 0) -> object:
    """Return `value` as JSON values: texts escaped and cut, spans of time as seconds, secrets hidden.

    Bytes are taken for a name in a file system; an object of any other class is converted by `str`.
    """
    # The most frequent kinds come first: a pass that fetches thousands of files logs each of them.
    kind = type(value)
    if kind is str:
        return _text(value)  # type: ignore[arg-type]  # it is one
    if kind in _AS_THEY_ARE or (kind is float and math.isfinite(value)):  # type: ignore[arg-type]  # the same
        return value
    if kind in _NAMES or _is_text(kind):
        return _text(str(value))
    match value:
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


_AS_THEY_ARE = frozenset({int, bool, type(None)})
_NAMES: set[type] = set()
"""Classes whose objects are converted by `str`."""


def _is_text(kind: type) -> bool:
    """Return whether objects of a class are converted by `str`: names of ours, and paths."""
    is_value = is_dataclass(kind) or issubclass(kind, Struct | tuple)
    found = issubclass(kind, StrEnum) or (is_value and kind.__str__ is not object.__str__)
    if found:
        _NAMES.add(kind)
    return found


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
        if is_dataclass(value) and not isinstance(value, type):
            return _mapping({each.name: getattr(value, each.name) for each in fields(value)}, depth)
        if isinstance(value, Struct):
            return _mapping({name: getattr(value, name) for name in value.__struct_fields__}, depth)
        if isinstance(value, Mapping):
            return _mapping(value, depth)
        if isinstance(value, set | frozenset):
            return _items(sorted(value, key=str), depth)
        if isinstance(value, Sequence):
            return _items(value, depth)
    return _text(str(value))


def _text(text: str) -> str:
    return _short_text(text) if len(text) <= _SHORT else _safe_text(text)


def _safe_text(text: str) -> str:
    text = masked(text)
    if len(text) > LONGEST_TEXT:
        return f"{escaped(text[:LONGEST_TEXT])} … ({len(text) - LONGEST_TEXT} more characters)"
    return escaped(text)


_short_text = lru_cache(maxsize=1024)(_safe_text)


def _items(values: Sequence[object], depth: int) -> list[object]:
    items = [plain(value, depth + 1) for value in values[:MOST_ITEMS]]
    return items if len(values) <= MOST_ITEMS else [*items, f"… ({len(values) - MOST_ITEMS} more)"]


@lru_cache(maxsize=512)
def _key(key: str) -> tuple[str, bool]:
    """Return a key in its logged form, and whether its value is a secret."""
    name = _text(key)
    return name, _SECRET.search(name) is not None


def _mapping(named: Mapping[Any, object], depth: int) -> dict[str, object]:
    fields: dict[str, object] = {}
    for key, value in islice(named.items(), MOST_ITEMS):
        name, secret = _key(str(key))
        if secret:
            fields[name] = HIDDEN
        elif type(value) is timedelta and not name.endswith("_seconds"):
            fields[f"{name}_seconds"] = value.total_seconds()
        else:
            fields[name] = plain(value, depth + 1)
    if len(named) > MOST_ITEMS:
        fields["…"] = f"({len(named) - MOST_ITEMS} more)"
    return fields


def with_timestamp(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Add the time first, RFC 3339 in UTC with microseconds, unless the event has one."""
    if "timestamp" in event:
        return event
    seconds, nanoseconds = divmod(time.time_ns(), _SECOND)
    return {"timestamp": f"{_second(seconds)}.{nanoseconds // 1000:06}Z", **event}


@lru_cache(maxsize=2)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def with_exception_lines(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Split a traceback into a list of lines: so each can be escaped and an event stays one line."""
    trace = event.get("exception")
    if isinstance(trace, str):
        # A key spans lines: it is masked while they are one text.
        event["exception"] = masked(trace).splitlines()[-MOST_ITEMS:]
    return event


def made_plain(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Apply `plain` to all fields and put the common ones first."""
    fields = _mapping(event, 0)
    first = {key: fields.pop(key) for key in _FIRST_KEYS if key in fields}
    return first | fields


PROCESSORS: tuple[Callable[[WrappedLogger, str, EventDict], EventDict], ...] = (
    add_log_level,
    ExceptionRenderer(),
    with_exception_lines,
    made_plain,
    with_timestamp,
)
"""The processors of every event, before any renderer."""
