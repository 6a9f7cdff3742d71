"""How far a run is, read from the lines of its train_log.jsonl. Torn lines and NaN tokens are normal there."""

from collections.abc import Iterable
from datetime import datetime

from harvestd.convention.log_rows import row_of, step_of

_LONGEST = 30 * 86_400
"""Seconds: an estimate beyond this says that the pace is not known (a run that was resumed long after its start)."""


def newest_step(lines: Iterable[bytes]) -> int | None:
    """Return the greatest step in these lines; lines that do not parse or carry no step count for nothing."""
    steps = (step_of(row["step"]) for row in map(row_of, lines) if row is not None)
    return max((step for step in steps if step is not None), default=None)


def seconds_left(step: int, total: int, started: datetime, newest: datetime) -> float | None:
    """Estimate the seconds until `total` from the pace since the run's start; None where there is no pace yet.

    `started` is the time in the run directory's name, `newest` that of the log's last change, in the same time zone.
    """
    elapsed = (newest - started).total_seconds()
    if step <= 0 or elapsed <= 0:
        return None
    left = max(0.0, elapsed / step * (total - step))
    return left if left <= _LONGEST else None
