"""Readers for the lines of train_log.jsonl and for numbers, used by planner, status and README.

The analysis scripts get a copy, so this imports only Python's standard library and runs on Python 3.9. Incomplete lines
and NaN tokens are normal in a log.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import BinaryIO

_LINE_LIMIT = 1 << 20
LAST_STEP = 10**9
"""A greater number is not a step."""
GREATEST = 1e100
"""A number whose absolute value is greater is not a measurement."""


def lines_in(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a log, each with its newline; a line of more than 1 MiB in pieces, which do not parse as rows.

    Only a newline ends a line: JSON allows other line breaks as whitespace.
    """
    while line := file.readline(_LINE_LIMIT):
        yield line


def lines_of(content: bytes) -> Iterator[bytes]:
    """Yield the lines of a part of a log that is in memory, as `lines_in` does for a file."""
    start = 0
    while start < len(content):
        limit = start + _LINE_LIMIT
        end = content.find(b"\n", start, limit) + 1 or limit
        yield content[start:end]
        start = end


def row_of(line: bytes) -> dict[str, object] | None:
    """Return the JSON object in a line; None if there is none or if it has no step."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and step_of(row.get("step")) is not None else None


def step_of(said: object) -> int | None:
    """Return a step or a count from a JSON value: an integer from 0 to `LAST_STEP`; None for anything else."""
    return said if isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= LAST_STEP else None


def measured(said: object) -> float | None:
    """Return a finite number from a JSON value; None for NaN, for text and for a number beyond `GREATEST`."""
    if isinstance(said, bool) or not isinstance(said, (int, float)):
        return None
    return float(said) if abs(said) <= GREATEST and math.isfinite(said) else None


def number(said: object) -> float | None:
    """Return the number in a table cell, a name or a setting, which may be a number or text.

    Return None for anything else, for NaN, and for a number beyond `GREATEST`.
    """
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        return None
    try:
        value = float(said)
    except (ValueError, OverflowError):
        return None
    return value if abs(value) <= GREATEST else None


def whole(said: object) -> int | None:
    """Return a step or a count given as a number or as text: an integer from 0 to `LAST_STEP`; None otherwise."""
    value = number(said)
    return int(value) if value is not None and 0 <= value <= LAST_STEP and value == int(value) else None
