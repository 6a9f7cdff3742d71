"""Collect the facts for README and pictures from an experiment's configurations and its final checkpoint.

The analysis scripts need matplotlib alone, and Python's library has no YAML parser: the planner's reader reads the
local files, and its results are written beside the scripts, into configured.json, again when one of the files changes.
"""

import hashlib
from collections.abc import Callable, Mapping
from typing import Final

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
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.structs import Immutable
from harvestd.json_text import indented_json
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord
from harvestd.report.memory import Memory
from harvestd.report.scripts.evals import RESULTS
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.root import DataRoot
from harvestd.store.walking import Neighbours

_LAYOUT: Final = "1"
"""Changed with the README's form, so that all are written again."""
_DRAWN: Final = frozenset({Kind.CONFIG, Kind.TRAIN_LOG, Kind.METRICS, Kind.RUN_META, Kind.EVAL_CONFIG, Kind.CHECKPOINT})
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
            repr((run.name, run.host, run.place, run.config, run.final, run.step, run.trouble)) for run in self.runs
        )
        # Only what is shown of them: some details of a scan are not recorded.
        left_out = sorted(
            repr((host, each.place, each.size, each.entries, each.reason)) for host, each in self.left_out
        )
        return _hash(_LAYOUT, scripts, repr(self.experiment), *runs, *files, *left_out)

    def mark_of_pictures(self, scripts: str) -> str:
        """Return a hash of the pictures' inputs: small files, and the directory's name in their titles."""
        drawn = sorted(f"{file.target}\0{file.sha256}" for file in self.files if file.kind in _DRAWN)
        return _hash(scripts, self.experiment.directory, *drawn)


def _hash(*texts: str) -> str:
    # One hash over all texts: there are thousands of them.
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


UNREADABLE: Final = (FileNotFoundError, Conflict, Refused, Damaged)
"""The errors of a local file that can't be read; the file is left out of a README."""

Said = Mapping[str, object]
Document = Mapping[str, object]
"""The content of configured.json: JSON values, absent where no file sets them."""

_ABOUT: Final = (
    "harvestd writes this for the scripts beside it, from config.yaml, training_info.json and the configurations of the"
    " evals, and again when one of them changes"
)
_CONFIG: Final = ("training_run", "config.yaml")
_FINAL_INFO: Final = ("training_run", "training_state", "step_final", "training_info.json")
_EVALS: Final = ("eval_config.yaml", "config.yaml")
"""The possible names of an eval's configuration; for each value the first file that sets it counts."""
_REMEMBERED: Final = 5_000
"""Files of all experiments."""


class Configurations:
    """Reads local configurations, each version of one once; several threads may use it at once."""

    def __init__(self) -> None:
        self._known: Memory[tuple[str, str], Said] = Memory(_REMEMBERED)

    def of(self, root: DataRoot, known: Known) -> Document:
        """Return the values of an experiment's configurations; blocks, and leaves out what can't be read.

        Raise `HaltedForSafety` and `Retry`.
        """
        here = {file.target.parts[1:]: file for file in known.files}
        evals: dict[str, dict[str, object]] = {}
        with Neighbours(root) as neighbours:

            def said(rest: tuple[str, ...], parse: Callable[[bytes], Said]) -> Said:
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

            run = {**said(_CONFIG, _run), **said(_FINAL_INFO, _final)}
            for place in sorted({rest[1:-1] for rest in here if rest[0] == RESULTS and rest[-1] in _EVALS}):
                second, first = (said((RESULTS, *place, name), _eval) for name in reversed(_EVALS))
                if found := {**second, **first}:
                    evals["/".join(place)] = found
        return {"about": _ABOUT, "run": run, "evals": evals}


def text(document: Document) -> bytes:
    """Return the content of configured.json."""
    return indented_json(document).encode("ascii") + b"\n"


def _parsed(raw: bytes, parse: Callable[[bytes], Said]) -> Said:
    try:
        return {name: value for name, value in parse(raw).items() if value is not None}
    except InvalidFacts:
        return {}


def _run(raw: bytes) -> Said:
    return asdict(parse_run_settings(raw))


def _final(raw: bytes) -> Said:
    return {"final_step": parse_training_info(raw).step}


def _eval(raw: bytes) -> Said:
    return asdict(parse_eval_config(raw))
