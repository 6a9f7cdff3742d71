"""What an experiment's small files hold: its configurations, and the results of its evals.

Each version of a file is read only once: the README of a run in progress is written every minute, and the end of a pass
must not open thousands of files again.

The analysis scripts need matplotlib alone, and Python's library has no YAML parser: the planner's reader reads the
local configurations, and their values are written beside the scripts, into configured.json.
"""

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import accumulate
from threading import Lock
from typing import Final, Generic, TypeVar

from msgspec.structs import asdict

from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.parse import (
    MAX_FACT_BYTES,
    InvalidFacts,
    parse_eval_config,
    parse_run_settings,
    parse_training_info,
)
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import LeftOut, Source
from harvestd.convention.structs import Immutable
from harvestd.json_text import indented_json
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord
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
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.root import DataRoot
from harvestd.store.walking import Neighbours

KeyT = TypeVar("KeyT")
ValueT = TypeVar("ValueT")


class Memory(Generic[KeyT, ValueT]):
    """Keeps the values that were used last, up to a number of them."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: OrderedDict[KeyT, ValueT] = OrderedDict()
        self._lock = Lock()

    def get(self, key: KeyT) -> ValueT | None:
        """Return the value of a key; None where it is not cached."""
        with self._lock:
            if key not in self._known:
                return None
            self._known.move_to_end(key)
            return self._known[key]

    def put(self, key: KeyT, value: ValueT) -> ValueT:
        """Store a value, and return it."""
        with self._lock:
            self._known[key] = value
            self._known.move_to_end(key)
            if len(self._known) > self._most:
                self._known.popitem(last=False)
        return value


_LAYOUT: Final = "2"
"""Changed with the README's form, so that all are written again."""
DRAWN: Final = frozenset({Kind.CONFIG, Kind.TRAIN_LOG, Kind.METRICS, Kind.RUN_META, Kind.EVAL_CONFIG, Kind.CHECKPOINT})
"""The kinds of files that results and pictures are made from."""
_DIGITS: Final = 16


class Known(Immutable):
    """One experiment with all its records."""

    experiment: ExperimentRecord
    runs: tuple[RunRecord, ...] = ()
    files: tuple[FileRecord, ...] = ()
    left_out: tuple[tuple[str, LeftOut], ...] = ()
    """As (host, entry)."""

    @property
    def directory(self) -> LocalPath:
        """The experiment's directory; raises `RejectedPath` for an invalid name."""
        return LocalPath((self.experiment.directory,))

    def mark(self, scripts: str) -> str:
        """Return a hash of all inputs of the README; `scripts` is a hash of the scripts."""
        files = sorted(
            "\0".join((str(file.target), file.sha256, file.host, file.place, file.reason)) for file in self.files
        )
        runs = sorted(
            repr((run.name, run.host, run.place, run.config, run.final, run.step, run.problem)) for run in self.runs
        )
        # Only what is shown of them: some details of a scan are not recorded.
        left_out = sorted(
            repr((host, each.place, each.size, each.entries, each.reason)) for host, each in self.left_out
        )
        return _hash(_LAYOUT, scripts, repr(self.experiment), *runs, *files, *left_out)

    def mark_of_pictures(self, scripts: str) -> str:
        """Return a hash of the pictures' inputs: small files, and the directory's name in their titles."""
        drawn = sorted(f"{file.target}\0{file.sha256}" for file in self.files if file.kind in DRAWN)
        return _hash(scripts, self.experiment.directory, *drawn)


def _hash(*texts: str) -> str:
    # One hash over all texts: there are thousands of them.
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


UNREADABLE: Final = (FileNotFoundError, Conflict, Refused, Damaged)
"""The errors of a local file that can't be read; the file is left out of a README."""

ConfiguredValues = Mapping[str, object]
Document = Mapping[str, object]
"""The content of configured.json: JSON values, absent where no file sets them."""

_ABOUT: Final = (
    "harvestd writes this for the scripts beside it, from config.yaml, training_info.json and the configurations of the"
    " evals, and again when one of them changes"
)
CONFIG: Final = ("training_run", "config.yaml")
"""Where a run's configuration lies, below the experiment's directory."""
_FINAL_INFO: Final = ("training_run", "training_state", "step_final", "training_info.json")
_EVALS: Final = ("eval_config.yaml", "config.yaml")
"""The possible names of an eval's configuration; for each value the first file that sets it counts."""
_FILES_REMEMBERED: Final = 5_000
"""Files of all experiments."""


class Configurations:
    """Reads local configurations, each version of one once; several threads may use it at once."""

    def __init__(self) -> None:
        self._known: Memory[tuple[str, str], ConfiguredValues] = Memory(_FILES_REMEMBERED)

    def of(self, root: DataRoot, known: Known) -> Document:
        """Return the values of an experiment's configurations; blocks, and leaves out what can't be read.

        Raise `HaltedForSafety` and `Retry`.
        """
        here = {file.target.parts[1:]: file for file in known.files}
        evals: dict[str, dict[str, object]] = {}
        with Neighbours(root) as neighbours:

            def read(rest: tuple[str, ...], parse: Callable[[bytes], ConfiguredValues]) -> ConfiguredValues:
                if rest not in here:
                    return {}
                key = (parse.__name__, here[rest].sha256)
                found = self._known.get(key)
                if found is not None:
                    return found
                try:
                    raw = neighbours.read(here[rest].target, MAX_FACT_BYTES)
                except UNREADABLE:
                    return {}  # perhaps only for now
                return self._known.put(key, _parsed(raw, parse))

            run = {**read(CONFIG, _run), **read(_FINAL_INFO, _final)}
            for place in sorted({rest[1:-1] for rest in here if rest[0] == RESULTS and rest[-1] in _EVALS}):
                second, first = (read((RESULTS, *place, name), _eval) for name in reversed(_EVALS))
                if found := {**second, **first}:
                    evals["/".join(place)] = found
        return {"about": _ABOUT, "run": run, "evals": evals}


def configured_json(document: Document) -> bytes:
    """Return the content of configured.json."""
    return indented_json(document).encode("ascii") + b"\n"


def _parsed(raw: bytes, parse: Callable[[bytes], ConfiguredValues]) -> ConfiguredValues:
    try:
        return {name: value for name, value in parse(raw).items() if value is not None}
    except InvalidFacts:
        return {}


def _run(raw: bytes) -> ConfiguredValues:
    return asdict(parse_run_settings(raw))


def _final(raw: bytes) -> ConfiguredValues:
    return {"final_step": parse_training_info(raw).step}


def _eval(raw: bytes) -> ConfiguredValues:
    return asdict(parse_eval_config(raw))


_SMALL: Final = 64 * 1024
"""Bytes. Larger files are read locally when they are needed, so that their publication is not delayed."""
MOST_EVALS: Final = 5_000
"""Of one experiment."""
_MOST_BYTES: Final = 1 << 30
"""Of the metrics of one experiment; the largest real ones have a tenth of it."""
_EVALS_REMEMBERED: Final = 5_000
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
    unreadable: int = 0
    """How many can't be read, perhaps only for now."""


class Evals:
    """Caches the results of evals; several threads may use it at once."""

    def __init__(self) -> None:
        self.configurations = Configurations()
        self._known: Memory[_Key, Figures] = Memory(_EVALS_REMEMBERED)

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
        counted = _within_bounds(metrics)
        found: list[Eval] = []
        unreadable = 0
        with Neighbours(root) as here:
            for file in counted:
                figures = self._figures(here, file, hashes.get((*file.target[:-1], META), ""))
                if figures is None:
                    unreadable += 1
                elif figures.means:
                    parts, remote = file.target[1:-1], file.place.split("/")
                    found.append(eval_of(parts, remote, figures.means, figures.meta, configured, datasets, last_step))
        return EvalsHere(tuple(in_order(found)), len(metrics) - len(counted), unreadable)

    def _figures(self, here: Neighbours, file: FileRecord, meta_sha256: str) -> Figures | None:
        """Return the content of an eval's files, empty where they are too long; None where they can't be read."""
        key = (file.sha256, meta_sha256)
        known = self._known.get(key)
        if known is not None:
            return known
        if file.size > TEXT_LIMIT:
            return Figures({}, Meta())
        try:
            metrics = here.read(file.target, TEXT_LIMIT)
        except UNREADABLE:
            return None
        return self._known.put(key, figures_of(metrics, partial(_meta, here, file.target)))


def _within_bounds(metrics: Sequence[FileRecord]) -> list[FileRecord]:
    """Return the files that are read of an experiment: a host may send any number of them, of any size."""
    sums = accumulate(min(file.size, TEXT_LIMIT) for file in metrics[:MOST_EVALS])
    return [file for file, size in zip(metrics, sums, strict=False) if size <= _MOST_BYTES]


def figures_of(metrics: bytes, meta: Callable[[], bytes]) -> Figures:
    """Return the results in an eval's files; where its metrics are empty, `meta` is not called for run_meta.json."""
    means = means_of(metrics.decode("utf-8", "replace"))
    return Figures(means, meta_of(mapping_of(meta().decode("utf-8", "replace"))) if means else Meta())


def _meta(here: Neighbours, metrics: LocalPath) -> bytes:
    try:
        return here.read(LocalPath((*metrics[:-1], META)), META_LIMIT)
    except UNREADABLE:
        return b""
