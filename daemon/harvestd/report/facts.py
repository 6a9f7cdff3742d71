"""Collect the content of a README: the experiment's records, and its small local files. Changes nothing.

Blocks: call it in a thread. What can't be read is left out of the README; `harvestd verify` reports it.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import field

from harvestd.convention.kinds import Kind
from harvestd.convention.log_rows import lines_of
from harvestd.convention.paths import ANALYSIS, LocalPath, RejectedPath
from harvestd.convention.structs import Immutable
from harvestd.report.scripts.experiment import last_step_of, log_of, section
from harvestd.report.small_files import UNREADABLE, Document, Evals, EvalsHere, Known
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.root import DataRoot

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


_MOST_PICTURES: Final = 20


class Facts(Immutable):
    """All inputs of a README."""

    known: Known
    configured: Document = field(default_factory=dict)
    """The values of the experiment's configurations, as in configured.json."""
    evals: EvalsHere = field(default_factory=EvalsHere)
    training: TrainingFigures | None = None
    logged_at: int | None = None
    """When the log was last written on its host, Unix time in nanoseconds."""
    pictures: tuple[str, ...] = ()
    """The names of the pictures in `analysis/`."""
    scripts: tuple[str, ...] = ()
    """The names of the scripts there that a person can start."""


def gather(root: DataRoot, known: Known, scripts: tuple[str, ...], reader: Evals) -> Facts:
    """Return the inputs of an experiment's README. Raise `HaltedForSafety` and `Retry`."""
    log = next((file for file in known.files if file.kind is Kind.TRAIN_LOG), None)
    training = training_of(root, log.target) if log else None
    configured = reader.configurations.of(root, known)
    last_step = last_step_of(section(configured, "run"), training.last_step if training else None)
    return Facts(
        known=known,
        configured=configured,
        evals=reader.of(root, known.files, configured, last_step),
        training=training,
        logged_at=log.version.mtime_ns if log else None,
        pictures=pictures_in(root, known.directory),
        scripts=scripts,
    )


def training_of(root: DataRoot, log: LocalPath) -> TrainingFigures | None:
    """Return the figures of a log, of a long one those of its beginning and end; None where it can't be read."""
    try:
        with translating(log), root.reading(log) as file:
            size = file.seek(0, 2)
            file.seek(0)
            if size <= WHOLE:
                return figures_of(file.read(WHOLE))
            beginning = file.read(PIECE)
            file.seek(size - PIECE)
            return figures_of(beginning, file.read(PIECE))
    except UNREADABLE:
        return None


def pictures_in(root: DataRoot, directory: LocalPath) -> tuple[str, ...]:
    """Return the names of the pictures in an experiment's `analysis/`."""
    try:
        names = root.listing(directory / ANALYSIS)
    except (FileNotFoundError, Conflict, Refused, RejectedPath):
        return ()
    return tuple(name for name in names if _is_picture(name))[:_MOST_PICTURES]


def _is_picture(name: str) -> bool:
    plain = name.removesuffix(".png")
    return plain != name and plain.isascii() and plain.replace("_", "").replace("-", "").isalnum()
