"""What evals came to, each version of one read only once: as it arrives, or from the files that stand at home.

A run that goes on has its README made every minute, and the end of a pass is no time to open thousands of files again.
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
from harvestd.store.read_many import Neighbours
from harvestd.store.root import DataRoot

_SMALL: Final = 64 * 1024
"""Bytes. Larger ones are read from home when they are asked for: their publication does not wait for that."""
MOST_EVALS: Final = 5_000
"""Of one experiment."""
_REMEMBERED: Final = 5_000
"""Evals of all experiments, a KiB each."""

_Key = tuple[str, str]
"""The SHA-256 of metrics.csv, and that of run_meta.json beside it, "" where there is none."""


class Figures(Immutable):
    """What the two files of one eval say."""

    means: Mapping[str, Mean]
    meta: Meta


class EvalsHere(Immutable):
    """The evals of an experiment."""

    evals: tuple[Eval, ...] = ()
    uncounted: int = 0
    """How many more there are than are read."""


class Evals:
    """Remembers what evals came to; several threads may use it at once."""

    def __init__(self) -> None:
        self.configurations = Configurations()
        self._known: Memory[_Key, Figures] = Memory(_REMEMBERED)

    def arrived(self, files: Sequence[tuple[Source, bytes, str]]) -> None:
        """Read the evals among files that came together: what they were on the host, their content and its SHA-256."""
        metas = {source.path[:-1]: (meta, sha256) for source, meta, sha256 in files if source.path.name == META}
        for source, metrics, sha256 in files:
            if source.path.name == METRICS:
                meta, meta_sha256 = metas.get(source.path[:-1], (b"", ""))
                if max(len(metrics), len(meta)) <= _SMALL:
                    self._known.put((sha256, meta_sha256), figures_of(metrics, partial(bytes, meta)))

    def of(self, root: DataRoot, files: Sequence[FileRecord], configured: Document, last_step: int | None) -> EvalsHere:
        """Return the evals of an experiment, as far as a README may cost; `last_step` is where "final" belongs.

        `configured` is what its configurations say.
        Blocks, and leaves out what can't be read. Raises `HaltedForSafety` and `Retry`.
        """
        hashes: dict[tuple[str, ...], str] = {file.target: file.sha256 for file in files}
        # Of a batch eval, consolidated_metrics.csv says again what each step's own file does.
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
    """Return what an eval's files say; where its metrics hold nothing, `meta` is not asked for run_meta.json."""
    means = means_of(metrics.decode("utf-8", "replace"))
    return Figures(means, meta_of(mapping_of(meta().decode("utf-8", "replace"))) if means else Meta())


def _meta(here: Neighbours, metrics: LocalPath) -> bytes:
    try:
        return here.read(LocalPath((*metrics[:-1], META)), META_LIMIT)
    except UNREADABLE:
        return b""
