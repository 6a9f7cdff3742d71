"""The progress of a run from its train_log.jsonl: steps and times, and detection of stalls and of divergence.

Progress tracking of one run: its usual time per step, and detection of stalls and of divergence. Pure. Input is the
lines of the log and the times at which they were read. Times are seconds on our clock, so a wrong clock on the host
has no effect. Incomplete lines are normal, and so are NaN tokens in healthy logs: only `loss` counts, and only if it
was finite before.
"""

import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from statistics import median
from typing import Final

from msgspec.structs import replace

from harvestd.convention.log_rows import row_of, step_of
from harvestd.convention.structs import Immutable

_GAPS: Final = 16
"""The number of latest gaps from which the usual gap is computed."""
_LEAST_GAPS: Final = 3
_TIMES: Final = 10
"""The multiple of its usual gap for which a run may be silent: checkpoints and evals in between take a few gaps."""
LEAST: Final = 300.0
"""Seconds for which any run may be silent."""


class Reading(Immutable):
    """The step and the loss in one line of a log."""

    step: int
    loss: float | None
    """None if the line has none; 0.0 for any integer."""


class StepRate(Immutable):
    """The tracked progress of one run."""

    began: float
    """When its first line was read."""
    step: int | None = None
    """The newest step."""
    at: float = 0.0
    """When the newest step was read."""
    gaps: tuple[float, ...] = ()
    """Observed seconds per step, the newest last."""
    finite: bool = False
    """Whether a finite loss was read."""
    diverged: Reading | None = None
    """The first reading with a loss that is not finite after finite ones; None again after a finite loss."""
    settled: bool = False
    """Whether its silence was examined; it is not reported again before the next step."""

    @property
    def usual(self) -> float | None:
        """Median seconds per step; None if too few gaps were observed."""
        return median(self.gaps) if len(self.gaps) >= _LEAST_GAPS else None

    def is_stalled(self, silent: float) -> bool:
        """Return whether `silent` seconds without a step are a stall, compared with the usual gap."""
        return self.usual is not None and silent > max(LEAST, _TIMES * self.usual)


def readings(lines: Iterable[bytes]) -> list[Reading]:
    """Return the readings in these lines; lines that do not parse or have no step are skipped."""
    found: list[Reading] = []
    for row in filter(None, map(row_of, lines)):
        step, loss = step_of(row["step"]), row.get("loss")
        if step is not None:
            # An integer is always finite, but may be too large for a float.
            found.append(Reading(step, loss if isinstance(loss, float) else 0.0 if type(loss) is int else None))
    return found


def advanced(rate: StepRate | None, readings_now: Sequence[Reading], now: float, *, live: bool) -> StepRate:
    """Return the progress of a run after these readings, which were read at `now`.

    `live`: the readings follow the previous ones directly, so the time between them is a valid gap. A smaller step
    means that the run was resumed: tracking starts anew.
    """
    newest = max((reading.step for reading in readings_now), default=None)
    if rate is None or (newest is not None and rate.step is not None and newest < rate.step):
        rate = StepRate(began=now)
    for reading in readings_now:
        rate = _with_loss(rate, reading)
    if newest is None or newest == rate.step:
        return rate
    gaps = rate.gaps
    if live and rate.step is not None:
        gaps = (*gaps, (now - rate.at) / (newest - rate.step))[-_GAPS:]
    return replace(rate, step=newest, at=now, gaps=gaps, settled=False)


def _with_loss(rate: StepRate, reading: Reading) -> StepRate:
    if reading.loss is None:
        return rate
    if math.isfinite(reading.loss):
        known = rate.finite and rate.diverged is None
        return rate if known else replace(rate, finite=True, diverged=None)
    if rate.finite and rate.diverged is None:
        return replace(rate, diverged=reading)
    return rate


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
