"""The results of experiments: their evals by setting, how their training went, and their configuration.

Each version of a file is read once, so that a repeated question costs no reading. All methods block: call them in a
thread. What can't be read is left out, as in a README, which is made by the same readers.
"""

from collections.abc import Mapping
from functools import partial
from typing import Final

from msgspec import field

from harvestd.convention.kinds import Kind
from harvestd.convention.log_rows import step_of
from harvestd.convention.metadata.parse import MAX_FACT_BYTES, InvalidFacts
from harvestd.convention.structs import Immutable
from harvestd.planning.records import FileRecord
from harvestd.report.comparison import Value, flattened
from harvestd.report.facts import TrainingFigures, training_of
from harvestd.report.scripts.evals import METRICS, TEXT_LIMIT, Eval, answers_of
from harvestd.report.scripts.experiment import last_step_of, section
from harvestd.report.scripts.lines import Line, lines_of
from harvestd.report.small_files import CONFIG, UNREADABLE, Evals, EvalsHere, Known, Memory
from harvestd.store.root import DataRoot

_LOGS_REMEMBERED: Final = 500
_CONFIGURATIONS_REMEMBERED: Final = 500
_ANSWERS_REMEMBERED: Final = 64
"""Evals of which the values of all questions are kept; up to a MiB each."""
_FINAL: Final = "final"


class Results(Immutable):
    """The results of one experiment."""

    lines: tuple[Line, ...] = ()
    """Its evals by setting, the setting with the most evals first; each has a figure."""
    metrics: Mapping[tuple[str, ...], FileRecord] = field(default_factory=dict)
    """The metrics.csv of each eval, by its directory below the experiment."""
    is_whole: bool = True
    """Whether every eval could be read."""

    @property
    def main(self) -> Line | None:
        """The line that represents the experiment: of those with a pass rate, the one with the most evals."""
        return next((line for line in self.lines if any(each.rate for each in line.evals)), None)


class ResultsReader:
    """Reads the results of experiments; several threads may use it at once."""

    def __init__(self, evals: Evals) -> None:
        self._evals = evals
        self._logs: Memory[str, TrainingFigures] = Memory(_LOGS_REMEMBERED)
        self._configurations: Memory[str, Mapping[str, Value]] = Memory(_CONFIGURATIONS_REMEMBERED)
        self._answers: Memory[tuple[str, str], Mapping[int, float]] = Memory(_ANSWERS_REMEMBERED)

    def of(self, root: DataRoot, known: Known) -> Results:
        """Return an experiment's results; `known` needs the files of `small_files.DRAWN` only.

        Raise `HaltedForSafety` and `Retry`.
        """
        configured = self._evals.configurations.of(root, known)
        run = section(configured, "run")
        read = partial(self._evals.of, root, known.files, configured)
        found: EvalsHere = read(last_step_of(run, None))
        if any(each.step == _FINAL for each in found.evals) and step_of(run.get("final_step")) is None:
            # Only then the log says where it belongs, and need be read.
            training = self.training(root, known)
            found = read(last_step_of(run, training.last_step if training else None))
        lines = [line for line in lines_of(found.evals).lines if line.scored]
        metrics = {tuple(file.target[1:-1]): file for file in known.files if file.target.name == METRICS}
        return Results(tuple(lines), metrics, is_whole=not found.unreadable)

    def training(self, root: DataRoot, known: Known) -> TrainingFigures | None:
        """Return how an experiment's training went; None without a log. Raise as `of`."""
        log = next((file for file in known.files if file.kind is Kind.TRAIN_LOG), None)
        if log is None:
            return None
        cached = self._logs.get(log.sha256)
        if cached is None and (figures := training_of(root, log.target)):
            cached = self._logs.put(log.sha256, figures)
        return cached

    def configuration(self, root: DataRoot, known: Known) -> Mapping[str, Value] | None:
        """Return the values of an experiment's config.yaml by dotted key; None where there is no valid one."""
        file = next((each for each in known.files if each.target[1:] == CONFIG), None)
        if file is None:
            return None
        cached = self._configurations.get(file.sha256)
        if cached is not None:
            return cached
        from harvestd.convention.metadata.yaml import mapping_from_yaml  # noqa: PLC0415  (takes long to import)

        try:
            return self._configurations.put(
                file.sha256, flattened(mapping_from_yaml(root.read(file.target, MAX_FACT_BYTES)))
            )
        except (*UNREADABLE, InvalidFacts):
            return None

    def answers(self, root: DataRoot, results: Results, each: Eval) -> Mapping[int, float]:
        """Return the share of right answers of each question of an eval; empty where they can't be told apart."""
        file = results.metrics.get(each.leaf)
        if file is None or file.size > TEXT_LIMIT:
            return {}
        key = (file.sha256, each.rate_column)
        cached = self._answers.get(key)
        if cached is not None:
            return cached
        try:
            text = root.read(file.target, TEXT_LIMIT).decode("utf-8", "replace")
        except UNREADABLE:
            return {}
        return self._answers.put(key, answers_of(text, each.rate_column))
