"""How a run goes, from the lines of its log and the times at which they were seen: its pace, and whether it diverged.

Pure. Times are seconds on our clock, so a box whose clock is wrong changes nothing. Torn lines are normal, and so are
NaN tokens in healthy logs: only `loss` counts, and only where it was finite before.
"""

import math
from collections.abc import Iterable, Sequence
from statistics import median
from typing import Final

from msgspec.structs import replace

from harvestd.convention.log_rows import row_of, step_of
from harvestd.convention.structs import Immutable

_GAPS: Final = 16
"""As many of the last ones say what is usual."""
_LEAST_GAPS: Final = 3
_TIMES: Final = 10
"""How many times its usual gap a run may be silent: saving a checkpoint and evals in between take a few."""
_LEAST: Final = 300.0
"""Seconds that any run may be silent."""


class Reading(Immutable):
    """What one line of a log says."""

    step: int
    loss: float | None
    """None where it says nothing of it; of a whole number only that it is one."""


class Stride(Immutable):
    """What is known of how one run goes."""

    began: float
    """When the first line of it was heard."""
    step: int | None = None
    """The newest."""
    at: float = 0.0
    """When that was heard."""
    gaps: tuple[float, ...] = ()
    """Seconds for one step, as they were seen, the newest last."""
    finite: bool = False
    """Whether a finite loss was seen."""
    diverged: Reading | None = None
    """The first reading whose loss was no number any more, until one is again."""
    settled: bool = False
    """Whether its silence was looked into; nothing more is said of it until the next step."""

    @property
    def usual(self) -> float | None:
        """Seconds that a step usually takes; None where too few were seen."""
        return median(self.gaps) if len(self.gaps) >= _LEAST_GAPS else None

    def is_stalled(self, silent: float) -> bool:
        """Return whether `silent` seconds without a step are many times the usual."""
        return self.usual is not None and silent > max(_LEAST, _TIMES * self.usual)


def readings(lines: Iterable[bytes]) -> list[Reading]:
    """Return what these lines say; those that do not parse or carry no step say nothing."""
    found: list[Reading] = []
    for row in filter(None, map(row_of, lines)):
        step, loss = step_of(row["step"]), row.get("loss")
        if step is not None:
            # An integer is finite, and may be too large for a float.
            found.append(Reading(step, loss if isinstance(loss, float) else 0.0 if type(loss) is int else None))
    return found


def strode(stride: Stride | None, heard: Sequence[Reading], now: float, *, live: bool) -> Stride:
    """Return how a run goes after these readings, heard at `now`.

    `live`: nothing stood between the last ones and these but time. A step back is a run that was resumed: it starts
    anew.
    """
    newest = max((reading.step for reading in heard), default=None)
    if stride is None or (newest is not None and stride.step is not None and newest < stride.step):
        stride = Stride(began=now)
    for reading in heard:
        stride = _with_loss(stride, reading)
    if newest is None or newest == stride.step:
        return stride
    gaps = stride.gaps
    if live and stride.step is not None:
        gaps = (*gaps, (now - stride.at) / (newest - stride.step))[-_GAPS:]
    return replace(stride, step=newest, at=now, gaps=gaps, settled=False)


def _with_loss(stride: Stride, reading: Reading) -> Stride:
    if reading.loss is None:
        return stride
    if math.isfinite(reading.loss):
        known = stride.finite and stride.diverged is None
        return stride if known else replace(stride, finite=True, diverged=None)
    if stride.finite and stride.diverged is None:
        return replace(stride, diverged=reading)
    return stride
