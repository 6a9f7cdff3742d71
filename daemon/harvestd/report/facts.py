"""What a README says of an experiment: what is on record, and what its small files at home say. Changes nothing.

Blocks: whoever calls it does so in a thread. What can't be read is left out of the README, which is no place for
errors; `harvestd verify` names it.
"""

from typing import Final

from msgspec import field

from harvestd.convention.kinds import Kind
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.report_files import ANALYSIS
from harvestd.convention.structs import Immutable
from harvestd.report.configured import UNREADABLE, Document
from harvestd.report.eval_memory import Evals, EvalsHere
from harvestd.report.known import Known
from harvestd.report.scripts.experiment import last_step_of, section
from harvestd.report.training import PIECE, WHOLE, TrainingFigures, figures_of
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.root import DataRoot

_MOST_PICTURES: Final = 20


class Facts(Immutable):
    """Everything that a README is rendered from."""

    known: Known
    configured: Document = field(default_factory=dict)
    """What the experiment's configurations say, as configured.json does."""
    evals: EvalsHere = field(default_factory=EvalsHere)
    training: TrainingFigures | None = None
    logged_at: int | None = None
    """When the log was last written on its box, Unix time in nanoseconds."""
    pictures: tuple[str, ...] = ()
    """The names of the pictures in `analysis/`."""
    scripts: tuple[str, ...] = ()
    """The names of the scripts there that a person can start."""


def gather(root: DataRoot, known: Known, scripts: tuple[str, ...], reader: Evals) -> Facts:
    """Read what the README of an experiment needs. Raises `HaltedForSafety` and `Retry`."""
    log = next((file for file in known.files if file.kind is Kind.TRAIN_LOG), None)
    training = _training(root, log.target) if log else None
    configured = reader.configurations.of(root, known)
    last_step = last_step_of(section(configured, "run"), training.last_step if training else None)
    return Facts(
        known=known,
        configured=configured,
        evals=reader.of(root, known.files, configured, last_step),
        training=training,
        logged_at=log.version.mtime_ns if log else None,
        pictures=_pictures(root, known.directory),
        scripts=scripts,
    )


def _training(root: DataRoot, log: LocalPath) -> TrainingFigures | None:
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


def _pictures(root: DataRoot, directory: LocalPath) -> tuple[str, ...]:
    try:
        names = root.listing(directory / ANALYSIS)
    except (FileNotFoundError, Conflict, Refused, RejectedPath):
        return ()
    return tuple(name for name in names if _is_picture(name))[:_MOST_PICTURES]


def _is_picture(name: str) -> bool:
    plain = name.removesuffix(".png")
    return plain != name and plain.isascii() and plain.replace("_", "").replace("-", "").isalnum()
