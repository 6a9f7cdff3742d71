"""What evals came to, each version of one read only once: as it arrives, or from the files that stand at home.

A run that goes on has its README made every minute, and the end of a pass is no time to open thousands of files again.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from functools import partial
from threading import Lock
from typing import Final

from harvestd.convention.artifacts import Kind
from harvestd.convention.layout import Source
from harvestd.convention.paths import LocalPath
from harvestd.convention.records import FileRecord
from harvestd.report.evals import MAX_METRICS, EvalFigures, figures_of
from harvestd.store.failures import Conflict, Damaged, Refused
from harvestd.store.neighbours import Neighbours
from harvestd.store.root import DataRoot

UNREADABLE: Final = (FileNotFoundError, Conflict, Refused, Damaged)
"""What is said of a file at home that can't be read; it is left out of a README."""

_METRICS: Final = "metrics.csv"
_META: Final = "run_meta.json"
_MAX_META: Final = 1 << 20
_SMALL: Final = 64 * 1024
"""Bytes. Larger ones are read from home when they are asked for: their publication does not wait for that."""
_MOST_EVALS: Final = 500
"""Of one experiment."""
_REMEMBERED: Final = 4_000
"""Evals of all experiments, some hundred bytes each."""

_Key = tuple[str, str, str]
"""Where metrics.csv lies on its box, its SHA-256, and that of run_meta.json beside it, "" where there is none."""


class Evals:
    """Remembers what evals came to; several threads may use it at once."""

    def __init__(self) -> None:
        self._known: OrderedDict[_Key, EvalFigures | None] = OrderedDict()
        self._lock = Lock()

    def arrived(self, files: Sequence[tuple[Source, bytes, str]]) -> None:
        """Read the evals among files that came together: what they were on the box, their content and its SHA-256."""
        metas = {source.path[:-1]: (meta, sha256) for source, meta, sha256 in files if source.path.name == _META}
        for source, metrics, sha256 in files:
            if source.path.name == _METRICS:
                meta, meta_sha256 = metas.get(source.path[:-1], (b"", ""))
                if max(len(metrics), len(meta)) <= _SMALL:
                    place = source.place
                    self._remember((place, sha256, meta_sha256), figures_of(place, metrics, partial(bytes, meta)))

    def of(self, root: DataRoot, files: Sequence[FileRecord]) -> Iterator[EvalFigures]:
        """Give the figures of an experiment's evals, as far as a README may cost.

        Blocks, and leaves out what can't be read. Raises `HaltedForSafety` and `Retry`.
        """
        hashes: dict[tuple[str, ...], str] = {file.target: file.sha256 for file in files}
        # Of a batch eval, consolidated_metrics.csv says again what each step's own file does.
        metrics = [file for file in files if file.kind is Kind.METRICS and file.target.name == _METRICS]
        with Neighbours(root) as here:
            for file in metrics[:_MOST_EVALS]:
                key = (file.place, file.sha256, hashes.get((*file.target[:-1], _META), ""))
                figures = self._figures(here, file, key)
                if figures:
                    yield figures

    def _figures(self, here: Neighbours, file: FileRecord, key: _Key) -> EvalFigures | None:
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        metrics = _content(here, file.target, MAX_METRICS)
        return self._remember(key, figures_of(file.place, metrics, partial(_meta, here, file.target)))

    def _remember(self, key: _Key, figures: EvalFigures | None) -> EvalFigures | None:
        with self._lock:
            self._known[key] = figures
            self._known.move_to_end(key)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return figures


def _meta(here: Neighbours, metrics: LocalPath) -> bytes:
    return _content(here, LocalPath((*metrics[:-1], _META)), _MAX_META)


def _content(here: Neighbours, path: LocalPath, limit: int) -> bytes:
    try:
        return here.read(path, limit)
    except UNREADABLE:
        return b""
