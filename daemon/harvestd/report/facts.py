"""What a README says of an experiment: what is on record, and what its small files at home say. Changes nothing.

Blocks: whoever calls it does so in a thread. What can't be read is left out of the README, which is no place for
errors; `harvestd verify` names it.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Final

from harvestd.convention.artifacts import Kind
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.records import FileRecord
from harvestd.convention.reports import ANALYSIS
from harvestd.convention.values import Immutable
from harvestd.report import evals, training
from harvestd.report.evals import MAX_METRICS, EvalFigures
from harvestd.report.known import Known
from harvestd.report.training import PIECE, TrainingFigures
from harvestd.store.failures import Conflict, Damaged, Refused, translating
from harvestd.store.neighbours import Neighbours
from harvestd.store.root import DataRoot

_META: Final = "run_meta.json"
"""Lies beside an eval's metrics."""
_MAX_META: Final = 1 << 20
_MOST_PICTURES: Final = 20
_MOST_EVALS: Final = 500
"""Of one experiment."""
_REMEMBERED: Final = 4_000
"""Evals of all experiments, some hundred bytes each."""
_UNREADABLE: Final = (FileNotFoundError, Conflict, Refused, Damaged)


class Facts(Immutable):
    """Everything that a README is rendered from."""

    known: Known
    evals: tuple[EvalFigures, ...] = ()
    training: TrainingFigures | None = None
    logged_at: int | None = None
    """When the log was last written on its box, Unix time in nanoseconds."""
    pictures: tuple[str, ...] = ()
    """The names of the pictures in `analysis/`."""
    scripts: tuple[str, ...] = ()
    """The names of the scripts there that a person can start."""


class Evals:
    """Reads evals, each version of one only once: a run that goes on has its README made every minute."""

    def __init__(self) -> None:
        self._seen: OrderedDict[tuple[str, str, str], EvalFigures | None] = OrderedDict()

    def of(self, root: DataRoot, files: Sequence[FileRecord]) -> Iterator[EvalFigures]:
        """Give the figures of an experiment's evals, as far as a README may cost; raises as `gather`."""
        hashes: dict[tuple[str, ...], str] = {file.target: file.sha256 for file in files}
        # Of a batch eval, consolidated_metrics.csv says again what each step's own file does.
        metrics = [file for file in files if file.kind is Kind.METRICS and file.target.name == "metrics.csv"]
        with Neighbours(root) as here:
            for file in metrics[:_MOST_EVALS]:
                key = (file.place, file.sha256, hashes.get((*file.target[:-1], _META), ""))
                if key not in self._seen:
                    metrics_csv = _content(here, file.target, MAX_METRICS)
                    self._seen[key] = evals.figures_of(file.place, metrics_csv, partial(_meta, here, file.target))
                    if len(self._seen) > _REMEMBERED:
                        self._seen.popitem(last=False)
                self._seen.move_to_end(key)
                figures = self._seen[key]
                if figures:
                    yield figures


def gather(root: DataRoot, known: Known, scripts: tuple[str, ...], reader: Evals) -> Facts:
    """Read what the README of an experiment needs. Raises `HaltedForSafety` and `Retry`."""
    log = next((file for file in known.files if file.kind is Kind.TRAIN_LOG), None)
    return Facts(
        known=known,
        evals=tuple(reader.of(root, known.files)),
        training=_training(root, log.target) if log else None,
        logged_at=log.version.mtime_ns if log else None,
        pictures=_pictures(root, known.directory),
        scripts=scripts,
    )


def _content(here: Neighbours, path: LocalPath, limit: int) -> bytes:
    try:
        return here.read(path, limit)
    except _UNREADABLE:
        return b""


def _meta(here: Neighbours, metrics: LocalPath) -> bytes:
    return _content(here, LocalPath((*metrics[:-1], _META)), _MAX_META)


def _training(root: DataRoot, log: LocalPath) -> TrainingFigures | None:
    try:
        with translating(log), root.reading(log) as file:
            beginning = file.read(PIECE)
            file.seek(max(0, file.seek(0, 2) - PIECE))
            return training.figures_of(beginning, file.read(PIECE))
    except _UNREADABLE:
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
