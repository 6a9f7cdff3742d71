"""What a training log says last, from the bytes of its beginning and its end, as the pictures read it."""

from collections.abc import Mapping
from typing import Final

from msgspec import field

from harvestd.convention.log_rows import lines_of
from harvestd.convention.structs import Immutable
from harvestd.report.scripts.experiment import log_of

WHOLE: Final = 2 << 20
"""Bytes of a log that is read whole."""
PIECE: Final = 256 << 10
"""Bytes that are read of a longer one's beginning, and of its end."""
KEYS: Final = ("loss", "r_mean", "entropy")


class TrainingFigures(Immutable):
    """How a training went."""

    first_step: int | None = None
    last_step: int | None = None
    last: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """By key: the value of the greatest step that has a finite one, and that step."""


def figures_of(*pieces: bytes) -> TrainingFigures:
    """Return what a log says; the pieces of it may be cut anywhere."""
    log = log_of(line for piece in pieces for line in lines_of(piece))
    last = {key: (series.values[-1], series.steps[-1]) for key in KEYS if (series := log.series(key)).steps}
    return TrainingFigures(int(log.rows[0]["step"]) if log.rows else None, log.last_step, last)
