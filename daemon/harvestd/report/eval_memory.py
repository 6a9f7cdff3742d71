"""Cache the results of evals, each version of one read only once: when it arrives, or from the local files.

The README of a run in progress is written every minute, and the end of a pass must not open thousands of files again.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Final

from harvestd.convention.kinds import Kind
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import Source
from harvestd.convention.structs import Immutable
from harvestd.planning.records import FileRecord
from harvestd.report.configured import UNREADABLE, Configurations, Document
from harvestd.report.memory import Memory
from harvestd.report.scripts.evals import (
    META,
    META_LIMIT,
    METRICS,
    RESULTS,
    TEXT_LIMIT,
    Eval,
    Mean,
    Meta,
    datasets_of,
    eval_of,
    in_order,
    means_of,
    meta_of,
)
from harvestd.report.scripts.experiment import mapping_of
from harvestd.store.root import DataRoot
from harvestd.store.walking import Neighbours

_SMALL: Final = 64 * 1024
"""Bytes. Larger files are read locally when they are needed, so that their publication is not delayed."""
MOST_EVALS: Final = 5_000
"""Of one experiment."""
_REMEMBERED: Final = 5_000
"""Evals of all experiments, a KiB each."""

_Key = tuple[str, str]
"""The SHA-256 of metrics.csv, and that of run_meta.json beside it, "" where there is none."""


class Figures(Immutable):
    """The content of the two files of one eval."""

    means: Mapping[str, Mean]
    meta: Meta


class EvalsHere(Immutable):
    """The evals of an experiment."""

    evals: tuple[Eval, ...] = ()
    uncounted: int = 0
    """How many further evals are not read."""


class Evals:
    """Caches the results of evals; several threads may use it at once."""

    def __init__(self) -> None:
        self.configurations = Configurations()
        self._known: Memory[_Key, Figures] = Memory(_REMEMBERED)

    def arrived(self, files: Sequence[tuple[Source, bytes, str]]) -> None:
        """Read the evals among files that were fetched together: their sources, content and SHA-256."""
        metas = {source.path[:-1]: (meta, sha256) for source, meta, sha256 in files if source.path.name == META}
        for source, metrics, sha256 in files:
            if source.path.name == METRICS:
                meta, meta_sha256 = metas.get(source.path[:-1], (b"", ""))
                if max(len(metrics), len(meta)) <= _SMALL:
                    self._known.put((sha256, meta_sha256), figures_of(metrics, partial(bytes, meta)))

    def of(self, root: DataRoot, files: Sequence[FileRecord], configured: Document, last_step: int | None) -> EvalsHere:
        """Return the evals of an experiment, within the cost of a README; `last_step` is the step of "final".

        `configured` holds the values of its configurations. Blocks, and leaves out what can't be read. Raise
        `HaltedForSafety` and `Retry`.
        """
        hashes: dict[tuple[str, ...], str] = {file.target: file.sha256 for file in files}
        # consolidated_metrics.csv of a batch eval repeats the files of its steps.
        metrics = [file for file in files if file.kind is Kind.METRICS and file.target.name == METRICS]
        datasets = datasets_of({part for file in metrics if file.target[1] == RESULTS for part in file.target[2:-1]})
        found: list[Eval] = []
        with Neighbours(root) as here:
            for file in metrics[:MOST_EVALS]:
                figures = self._figures(here, file, hashes.get((*file.target[:-1], META), ""))
                if figures.means:
                    parts, remote = file.target[1:-1], file.place.split("/")
                    found.append(eval_of(parts, remote, figures.means, figures.meta, configured, datasets, last_step))
        return EvalsHere(tuple(in_order(found)), max(0, len(metrics) - MOST_EVALS))

    def _figures(self, here: Neighbours, file: FileRecord, meta_sha256: str) -> Figures:
        key = (file.sha256, meta_sha256)
        known = self._known.get(key)
        if known is not None:
            return known
        if file.size > TEXT_LIMIT:
            return Figures({}, Meta())
        try:
            metrics = here.read(file.target, TEXT_LIMIT)
        except UNREADABLE:
            return Figures({}, Meta())  # perhaps only for now
        return self._known.put(key, figures_of(metrics, partial(_meta, here, file.target)))


def figures_of(metrics: bytes, meta: Callable[[], bytes]) -> Figures:
    """Return the results in an eval's files; where its metrics are empty, `meta` is not called for run_meta.json."""
    means = means_of(metrics.decode("utf-8", "replace"))
    return Figures(means, meta_of(mapping_of(meta().decode("utf-8", "replace"))) if means else Meta())


def _meta(here: Neighbours, metrics: LocalPath) -> bytes:
    try:
        return here.read(LocalPath((*metrics[:-1], META)), META_LIMIT)
    except UNREADABLE:
        return b""
