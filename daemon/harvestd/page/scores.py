"""The newest pass rate of each host's run, and how it compares with the last run of the same kind at the same step.

The results are read again, in a thread, when an eval was completed since. Earlier runs are those of the same experiment
and model; only evals with equal settings are compared.
"""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Final

import anyio.to_thread

from harvestd.api.state import Source
from harvestd.catalogue import queries
from harvestd.convention.structs import Immutable
from harvestd.errors import HarvestError
from harvestd.page import words
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import ExperimentRecord
from harvestd.report.results import Results, ResultsReader
from harvestd.report.scripts.evals import Eval
from harvestd.report.small_files import DRAWN, Known
from harvestd.telemetry.event_buffer import RECENT
from harvestd.telemetry.events import Event

_READ_AGAIN: Final = frozenset({Event.EVAL_COMPLETED, Event.EXPERIMENT_RENAMED, Event.EVAL_RENAMED})
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class Score(Immutable):
    """A pass rate in words."""

    value: str
    error: str
    at: str
    compared: str = ""


class Scores:
    """The pass rates of one daemon's experiments."""

    def __init__(self) -> None:
        self._reader: ResultsReader | None = None
        self._marker = -1
        """The number of the newest event after which everything has to be read again."""
        self._known: dict[str, Score | None] = {}

    async def of(self, source: Source, experiments: Iterable[str]) -> Mapping[str, Score | None]:
        """Return the newest pass rates of these experiments, by id."""
        marker = _newest_marker()
        if marker != self._marker:
            self._marker = marker
            self._known.clear()
        missing = [each for each in experiments if each not in self._known]
        if missing:
            if self._reader is None:
                self._reader = ResultsReader(source.context.evals)
            knowledge = source.context.catalogue.knowledge
            read = partial(_read, source, self._reader, {each: _pair(each, knowledge) for each in missing})
            try:
                self._known.update(await anyio.to_thread.run_sync(read))
            except HarvestError:
                return {}  # the disk or the catalogue fails, which events and other views report
        return self._known


def _newest_marker() -> int:
    found, _ = RECENT.after(None)
    return next((each.number for each in reversed(found) if each.fields.get("event") in _READ_AGAIN), 0)


def _pair(identifier: str, knowledge: PlanningIndex) -> tuple[ExperimentRecord, ExperimentRecord | None]:
    """Return an experiment, and the last one before it of the same name and model."""
    this = knowledge.experiment(identifier)
    earlier = [each for each in knowledge.experiments() if _is_earlier(each, this)]
    return this, max(earlier, key=lambda each: each.name.date.value, default=None)


def _is_earlier(each: ExperimentRecord, this: ExperimentRecord) -> bool:
    same = (each.name.experiment_name.value, each.name.model.value) == (
        this.name.experiment_name.value,
        this.name.model.value,
    )
    return same and not each.gone and each.name.date.value < this.name.date.value


def _read(
    source: Source, reader: ResultsReader, pairs: Mapping[str, tuple[ExperimentRecord, ExperimentRecord | None]]
) -> dict[str, Score | None]:
    with queries.questions(source.context.settings.state) as connection:

        def results(experiment: ExperimentRecord) -> Results:
            files = tuple(queries.files_of_kinds(connection, experiment.id, DRAWN))
            return reader.of(source.root, Known(experiment, (), files))

        return {
            identifier: _score(results(this), None if before is None else results(before), before)
            for identifier, (this, before) in pairs.items()
        }


def _score(found: Results, before: Results | None, earlier: ExperimentRecord | None) -> Score | None:
    last = found.main.last if found.main else None
    if last is None or last.rate is None:
        return None
    compared = ""
    if before is not None and earlier is not None:
        same = [line for line in before.lines if found.main and line.setting == found.main.setting]
        match = next((each for line in same for each in line.evals if each.at == last.at and each.rate), None)
        compared = "" if match is None else _compared(last, match, earlier)
    step = "final step" if last.step == "final" else f"step {last.step}"
    return Score(f"{last.rate.value:.3f}", f"\u00b1 {last.rate.error:.3f}", step, compared)


def _compared(last: Eval, earlier: Eval, of: ExperimentRecord) -> str:
    difference = (last.rate.value if last.rate else 0.0) - (earlier.rate.value if earlier.rate else 0.0)
    sign, word = ("\u25b2", "over") if difference >= 0 else ("\u25bc", "under")
    return f"{sign} {abs(difference):.3f} {word} {_day(of.name.date.value)}"


def _day(date: str) -> str:
    """Return a date of a directory's name in words, such as "18 Aug"."""
    parts = date.split("-")
    if (
        [len(part) for part in parts] == [4, 2, 2]
        and all(map(str.isdecimal, parts))
        and 1 <= int(parts[1]) <= len(_MONTHS)
    ):
        return f"{int(parts[2])}{words.SPACE}{_MONTHS[int(parts[1]) - 1]}"
    return words.told(date, 20)
