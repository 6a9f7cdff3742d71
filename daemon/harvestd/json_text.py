"""Reading and writing of JSON: the same results as Python's `json` module, in a fraction of its time.

The one difference: a float that is not a finite number is written as null. JSON has no notation for it, and few other
readers accept `NaN`.
"""

import json
import math
from datetime import UTC, datetime
from typing import Final

import msgspec

_QUICK: Final = msgspec.json.Encoder()
_ASCII: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def json_text(value: object) -> str:
    """Return a value of JSON's own types as one line of ASCII text, which is the same in every locale.

    NaN and the infinities become null.
    """
    try:
        text = _QUICK.encode(value)
    except (UnicodeEncodeError, TypeError):
        # Lone surrogates, and subclasses of str, int and float.
        return _in_ascii(value)
    # The fast encoder leaves non-ASCII letters as they are; few texts contain any.
    return text.decode("ascii") if text.isascii() else _in_ascii(value)


def _in_ascii(value: object) -> str:
    try:
        return _ASCII.encode(value)
    except ValueError:
        return _ASCII.encode(_finite(value))


def _finite(value: object) -> object:
    """Return `value` with null in place of each float that is not a finite number."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: _finite(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(each) for each in value]
    return value


def indented_json(value: object) -> str:
    """Return JSON for people: ASCII only, indented by two."""
    text = json_text(value)
    try:
        return msgspec.json.format(text, indent=2)
    except msgspec.DecodeError:
        # Lone surrogates, as in `json_text`.
        return json.dumps(json.loads(text), indent=2)


def json_value(content: bytes) -> object:
    """Return the value of a JSON text.

    Raise `ValueError` if it is invalid, `RecursionError` if it is nested too deep.
    """
    try:
        return msgspec.json.decode(content)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        # Python's own module accepts more: NaN, lone surrogates, UTF-16.
        return json.loads(content)


def timestamp(moment: float | None) -> str | None:
    """Return a moment (Unix time) as RFC 3339 in UTC, to the second: the form of documents."""
    if moment is None:
        return None
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
