"""What evals came to, each version of one read only once: as it arrives, or from the files that stand at home.

A run that goes on has its README made every minute, and the end of a pass is no time to open thousands of files again.
"""

from collections import OrderedDict
from collections.abc import Callable, Container, Mapping, Sequence
from functools import partial
from threading import Lock
from typing import Final

from harvestd.convention.artifacts import Kind
from harvestd.convention.layout import Source
from harvestd.convention.paths import LocalPath
from harvestd.convention.records import FileRecord
from harvestd.convention.values import Immutable
from harvestd.report.scripts.evals import (
    META,
    METRICS,
    RESULTS,
    TEXT_LIMIT,
    Eval,
    Mean,
    Meta,
    configs_of,
    datasets_of,
    eval_of,
    in_order,
    means_of,
    meta_of,
)
from harvestd.report.scripts.experiment import mapping_of
from harvestd.store.failures import Conflict, Damaged, Refused
from harvestd.store.neighbours import Neighbours
from harvestd.store.root import DataRoot

UNREADABLE: Final = (FileNotFoundError, Conflict, Refused, Damaged)
"""What is said of a file at home that can't be read; it is left out of a README."""

_MAX_META: Final = 1 << 20
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
        self._known: OrderedDict[_Key, Figures] = OrderedDict()
        self._lock = Lock()

    def arrived(self, files: Sequence[tuple[Source, bytes, str]]) -> None:
        """Read the evals among files that came together: what they were on the host, their content and its SHA-256."""
        metas = {source.path[:-1]: (meta, sha256) for source, meta, sha256 in files if source.path.name == META}
        for source, metrics, sha256 in files:
            if source.path.name == METRICS:
                meta, meta_sha256 = metas.get(source.path[:-1], (b"", ""))
                if max(len(metrics), len(meta)) <= _SMALL:
                    self._remember((sha256, meta_sha256), figures_of(metrics, partial(bytes, meta)))

    def of(self, root: DataRoot, files: Sequence[FileRecord], last_step: int | None) -> EvalsHere:
        """Return the evals of an experiment, as far as a README may cost; `last_step` is where "final" belongs.

        Blocks, and leaves out what can't be read. Raises `HaltedForSafety` and `Retry`.
        """
        hashes: dict[tuple[str, ...], str] = {file.target: file.sha256 for file in files}
        # Of a batch eval, consolidated_metrics.csv says again what each step's own file does.
        metrics = [file for file in files if file.kind is Kind.METRICS and file.target.name == METRICS]
        datasets = datasets_of({part for file in metrics if file.target[1] == RESULTS for part in file.target[2:-1]})
        found: list[Eval] = []
        with Neighbours(root) as here:
            configs = _Configs(here, hashes)
            for file in metrics[:MOST_EVALS]:
                figures = self._figures(here, file, hashes.get((*file.target[:-1], META), ""))
                if figures.means:
                    parts, remote = file.target[1:-1], file.place.split("/")
                    texts = [configs.text((file.target[0], *place)) for place in configs_of(parts)]
                    found.append(eval_of(parts, remote, figures.means, figures.meta, texts, datasets, last_step))
        return EvalsHere(tuple(in_order(found)), max(0, len(metrics) - MOST_EVALS))

    def _figures(self, here: Neighbours, file: FileRecord, meta_sha256: str) -> Figures:
        key = (file.sha256, meta_sha256)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        metrics = _content(here, file.target, TEXT_LIMIT)
        return self._remember(key, figures_of(metrics, partial(_meta, here, file.target)))

    def _remember(self, key: _Key, figures: Figures) -> Figures:
        with self._lock:
            self._known[key] = figures
            self._known.move_to_end(key)
            if len(self._known) > _REMEMBERED:
                self._known.popitem(last=False)
        return figures


def figures_of(metrics: bytes, meta: Callable[[], bytes]) -> Figures:
    """Return what an eval's files say; where its metrics hold nothing, `meta` is not asked for run_meta.json."""
    means = means_of(metrics.decode("utf-8", "replace"))
    return Figures(means, meta_of(mapping_of(meta().decode("utf-8", "replace"))) if means else Meta())


class _Configs:
    """Reads the configurations of evals, each once."""

    def __init__(self, here: Neighbours, known: Container[tuple[str, ...]]) -> None:
        self._here = here
        self._known = known
        self._texts: dict[tuple[str, ...], str] = {}

    def text(self, place: tuple[str, ...]) -> str:
        """Return the text of a file that is on record; empty for any other, and for one that can't be read."""
        if place not in self._texts:
            content = _content(self._here, LocalPath(place), _MAX_META) if place in self._known else b""
            self._texts[place] = content.decode("utf-8", "replace")
        return self._texts[place]


def _meta(here: Neighbours, metrics: LocalPath) -> bytes:
    return _content(here, LocalPath((*metrics[:-1], META)), _MAX_META)


def _content(here: Neighbours, path: LocalPath, limit: int) -> bytes:
    try:
        return here.read(path, limit)
    except UNREADABLE:
        return b""
