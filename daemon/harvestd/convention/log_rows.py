"""Lines of train_log.jsonl and numbers, read: by planner, status and README here, and by the analysis scripts.

The scripts copy this; it needs nothing but Python 3.9. Torn lines and NaN tokens are normal in a log.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import BinaryIO

_LINE_LIMIT = 1 << 20
LAST_STEP = 10**9
"""A step beyond this is none."""
GREATEST = 1e100
"""A number beyond this, to either side, is no measurement."""


def lines_in(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of a log, each with its newline; of one that is longer than any log's, pieces, which are no rows.

    Nothing but a newline ends a line: JSON has other line breaks within its space.
    """
    while line := file.readline(_LINE_LIMIT):
        yield line


def lines_of(content: bytes) -> Iterator[bytes]:
    """Yield the lines of a piece of a log, as `lines_in` does of a file."""
    start = 0
    while start < len(content):
        limit = start + _LINE_LIMIT
        end = content.find(b"\n", start, limit) + 1 or limit
        yield content[start:end]
        start = end


def row_of(line: bytes) -> dict[str, object] | None:
    """Return the mapping that a line holds; None where it holds none, or one without a step."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and step_of(row.get("step")) is not None else None


def step_of(said: object) -> int | None:
    """Return a step or a count as JSON holds it: a whole number of 0 or more; None for anything else."""
    return said if isinstance(said, int) and not isinstance(said, bool) and 0 <= said <= LAST_STEP else None


def measured(said: object) -> float | None:
    """Return a quantity as JSON holds it: a finite number; None for NaN, for a text and for what is beyond measure."""
    if isinstance(said, bool) or not isinstance(said, (int, float)):
        return None
    return float(said) if abs(said) <= GREATEST and math.isfinite(said) else None


def number(said: object) -> float | None:
    """Return the number that a cell, a name or a setting holds, as a number or as text.

    None for what is none, for NaN, and for what is too large to be measured.
    """
    if isinstance(said, bool) or not isinstance(said, (int, float, str)):
        return None
    try:
        value = float(said)
    except (ValueError, OverflowError):
        return None
    return value if abs(value) <= GREATEST else None


def whole(said: object) -> int | None:
    """Return a step or a count that stands there as a number or as text: whole, 0 or more; None otherwise."""
    value = number(said)
    return int(value) if value is not None and 0 <= value <= LAST_STEP and value == int(value) else None
