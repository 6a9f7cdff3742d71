"""Extract the last values of a training log, from the bytes of its beginning and its end, as the pictures do."""

from collections.abc import Mapping
from typing import Final

from msgspec import field

from harvestd.convention.log_rows import lines_of
from harvestd.convention.structs import Immutable
from harvestd.report.scripts.experiment import log_of

WHOLE: Final = 2 << 20
"""Bytes up to which a log is read completely."""
PIECE: Final = 256 << 10
"""Bytes that are read of a longer one's beginning, and of its end."""
KEYS: Final = ("loss", "r_mean", "entropy")


class TrainingFigures(Immutable):
    """The progress of a training."""

    first_step: int | None = None
    last_step: int | None = None
    last: Mapping[str, tuple[float, int]] = field(default_factory=dict)
    """By key: the value of the greatest step that has a finite one, and that step."""


def figures_of(*pieces: bytes) -> TrainingFigures:
    """Return the figures of a log; its pieces may be cut anywhere."""
    log = log_of(line for piece in pieces for line in lines_of(piece))
    last = {key: (series.values[-1], series.steps[-1]) for key in KEYS if (series := log.series(key)).steps}
    return TrainingFigures(int(log.rows[0]["step"]) if log.rows else None, log.last_step, last)
