"""Decode the fields of answers: raise `BrokenAnswer` for a wrong type or a value out of range."""

from collections.abc import Mapping
from typing import cast

from harvestd.convention.paths import encoded
from harvestd.json_text import json_value
from harvestd.telemetry.masking import masked

MOST = 2**63 - 1
"""The largest number of a file system, and of the catalogue."""
MOST_TEXT = 4096


class BrokenAnswer(ValueError):
    """An answer that no honest program gives."""


def object_in(payload: bytes) -> Mapping[str, object]:
    """Return a frame's payload as a JSON object."""
    try:
        value = json_value(payload)
    except (ValueError, RecursionError) as e:
        raise BrokenAnswer("an answer that is no JSON") from e
    if not isinstance(value, dict):
        raise BrokenAnswer("an answer that is no JSON object")
    return cast("dict[str, object]", value)


def integer(value: object, *, least: int = 0, most: int = MOST) -> int:
    """Return a number from `least` to `most`."""
    # A bool is an int in Python, but not in the protocol.
    if type(value) is not int or not least <= value <= most:
        raise BrokenAnswer("a number that is none, or out of range")
    return value


def text(value: object, most: int = MOST_TEXT) -> str:
    """Return a text of `most` characters at most, unchanged."""
    if not isinstance(value, str) or len(value) > most:
        raise BrokenAnswer("a text that is none, or too long")
    return value


def words(value: object, most: int) -> str:
    """Return a short text for people, without control characters and without what looks like a secret."""
    return "".join(c if c.isprintable() else "?" for c in masked(text(value, most)))


def link_target(value: object) -> str:
    """Return a link's target: any text that a file system can hold."""
    target = text(value)
    try:
        raw = encoded(target)
    except UnicodeEncodeError as e:
        raise BrokenAnswer("a link's target that no file system can hold") from e
    if not raw or b"\0" in raw:
        raise BrokenAnswer("a link's target that no file system can hold")
    return target


def items(value: object) -> list[object]:
    """Return a list."""
    if not isinstance(value, list):
        raise BrokenAnswer("a list that is none")
    return value
