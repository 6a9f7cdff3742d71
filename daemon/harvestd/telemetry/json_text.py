"""An event as JSON, in one line and of ASCII alone: the same whatever the locale of who started us."""

import json
from collections.abc import Mapping
from typing import Any, Final

import msgspec

_QUICK: Final = msgspec.json.Encoder()
_ASCII: Final = json.JSONEncoder(allow_nan=False, separators=(",", ":"))


def json_text(event: Mapping[str, Any]) -> str:
    """Give an event whose fields are JSON's own kinds of value as a line."""
    line = _QUICK.encode(event)
    # Letters of other scripts, which it leaves as they are, stand in few events.
    return line.decode("ascii") if line.isascii() else _ASCII.encode(event)
