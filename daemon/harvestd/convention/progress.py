"""How far a run is, read from the lines of its train_log.jsonl. Torn lines and NaN tokens are normal there."""

import json
from collections.abc import Iterable
from datetime import datetime

_MAX_STEP = 10**9
_LONGEST = 30 * 86_400
"""Seconds: an estimate beyond this says that the pace is not known (a run that was resumed long after its start)."""


def newest_step(lines: Iterable[bytes]) -> int | None:
    """Give the greatest step in these lines; lines that do not parse or carry no step count for nothing."""
    greatest: int | None = None
    for line in lines:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):
            continue
        step = step_of(row)
        if step is not None:
            greatest = step if greatest is None else max(greatest, step)
    return greatest


def step_of(row: object) -> int | None:
    """Give the step of one line that was parsed; None where it carries none."""
    step = row.get("step") if isinstance(row, dict) else None
    return step if isinstance(step, int) and not isinstance(step, bool) and 0 <= step <= _MAX_STEP else None


def seconds_left(step: int, total: int, started: datetime, newest: datetime) -> float | None:
    """Estimate the seconds until `total` from the pace since the run's start; None where there is no pace yet.

    `started` is the time in the run directory's name, `newest` that of the log's last change, in the same time zone.
    """
    elapsed = (newest - started).total_seconds()
    if step <= 0 or elapsed <= 0:
        return None
    left = max(0.0, elapsed / step * (total - step))
    return left if left <= _LONGEST else None
