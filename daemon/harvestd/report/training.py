"""What a training log says last, from the bytes of its beginning and its end. Torn lines and NaN tokens are normal."""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, Final

from msgspec import field

from harvestd.convention.progress import newest_step
from harvestd.convention.values import Immutable

PIECE: Final = 256 << 10
"""Bytes that are read of a log's beginning, and of its end."""
KEYS: Final = ("loss", "r_mean", "entropy")
_GREATEST: Final = 1e12


class TrainingFigures(Immutable):
    """How a training went."""

    first_step: int | None = None
    last_step: int | None = None
    last: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """By key: the last finite value, and its step."""


def figures_of(beginning: bytes, end: bytes) -> TrainingFigures:
    """Give what a log says; both pieces may be cut anywhere."""
    last: dict[str, tuple[float, int]] = {}
    for step, row in _rows(end):
        for key in KEYS:
            number = row.get(key)
            if isinstance(number, int | float) and not isinstance(number, bool) and abs(number) <= _GREATEST:
                last[key] = (float(number), step)
    first = next((step for step, _ in _rows(beginning)), None)
    return TrainingFigures(first, newest_step(end.splitlines()), {key: last[key] for key in KEYS if key in last})


def _rows(piece: bytes) -> Iterator[tuple[int, dict[str, Any]]]:
    for line in piece.splitlines():
        step = newest_step((line,))
        if step is not None:
            row = json.loads(line, parse_constant=lambda _: math.nan)
            yield step, row
