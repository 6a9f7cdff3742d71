"""The progress of a run from the lines of its train_log.jsonl. Incomplete lines and NaN tokens are normal there."""

from collections.abc import Iterable
from datetime import datetime

from harvestd.convention.log_rows import row_of, step_of

_LONGEST = 30 * 86_400
"""Seconds: a longer estimate means that the pace is unknown, for example after a late resumption."""


def newest_step(lines: Iterable[bytes]) -> int | None:
    """Return the greatest step in these lines; lines that do not parse or have no step are skipped."""
    steps = (step_of(row["step"]) for row in map(row_of, lines) if row is not None)
    return max((step for step in steps if step is not None), default=None)


def seconds_left(step: int, total: int, started: datetime, newest: datetime) -> float | None:
    """Return the estimated seconds until step `total` from the pace since the run's start; None if there is no pace.

    `started` is the time in the run directory's name, `newest` that of the log's last change, in the same time zone.
    """
    elapsed = (newest - started).total_seconds()
    if step <= 0 or elapsed <= 0:
        return None
    left = max(0.0, elapsed / step * (total - step))
    return left if left <= _LONGEST else None
