"""Two to eight experiments beside each other: one form for `harvestd compare` and the API.

The first experiment is what the others are compared with. Everything here blocks: call it in a thread.
"""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from harvestd.catalogue import queries
from harvestd.convention.structs import Immutable
from harvestd.documents.experiments import (
    ExperimentReader,
    ExperimentView,
    eval_document,
    setting_document,
)
from harvestd.documents.forms import Document
from harvestd.documents.stored import escaped_documents, find
from harvestd.errors import ExitCode, Fatal
from harvestd.report.comparison import Difference, Value, by_setting, difference, different_keys, last_in_both
from harvestd.report.facts import TrainingFigures
from harvestd.report.scripts.evals import Setting
from harvestd.report.scripts.lines import Line
from harvestd.settings import Settings

COMPARE_KEYS: Final = """experiments[] {experiment, id, runs[], state, step, total_steps,
  bytes, training {KEY: {value, step}}},
evals[] {setting, results[] {experiment, base, last, best (as of
  `experiments`), difference {step, value, error, n, paired, word}}},
more_settings, configuration[] {key, values[]}, more_keys,
without_configuration[]"""
"""The keys of the document, for the help of the command."""

FEWEST: Final = 2
MOST: Final = 8
_MOST_SETTINGS: Final = 20
_MOST_KEYS: Final = 200


class Compared(Immutable):
    """One of the experiments."""

    view: ExperimentView
    training: TrainingFigures | None
    configured: bool
    """Whether its configuration is here and valid."""

    @property
    def name(self) -> str:
        """The name of its directory."""
        return self.view.experiment.directory


class Row(Immutable):
    """The evals of one experiment with one setting."""

    name: str
    line: Line | None
    """None: it has no such eval."""
    difference: Difference | None
    """To the first experiment at the last step that both have; None where there is none, and for the first one."""


class Table(Immutable):
    """The results of all experiments with one setting."""

    setting: Setting
    rows: tuple[Row, ...]


class Comparison(Immutable):
    """Everything that is compared."""

    experiments: tuple[Compared, ...]
    tables: tuple[Table, ...]
    more_settings: int
    configuration: tuple[tuple[str, tuple[Value, ...]], ...]
    """The keys that differ, each with the value of each experiment; None: it does not set the key."""
    more_keys: int

    def document(self) -> Document:
        """Return the document with `COMPARE_KEYS`."""
        return {
            "experiments": [_experiment_document(each) for each in self.experiments],
            "evals": [
                {"setting": setting_document(table.setting), "results": [_row_document(row) for row in table.rows]}
                for table in self.tables
            ],
            "more_settings": self.more_settings,
            "configuration": [{"key": key, "values": list(values)} for key, values in self.configuration],
            "more_keys": self.more_keys,
            "without_configuration": [each.name for each in self.experiments if not each.configured],
        }


def _experiment_document(each: Compared) -> Document:
    whole = each.view.document()
    keys = ("experiment", "id", "runs", "state", "step", "total_steps", "bytes")
    last = each.training.last if each.training else {}
    return {key: whole[key] for key in keys} | {
        "training": {key: {"value": value, "step": step} for key, (value, step) in last.items()}
    }


def _row_document(row: Row) -> Document:
    line, found = row.line, row.difference
    return {
        "experiment": row.name,
        "base": eval_document(line.base if line else None),
        "last": eval_document(line.last if line else None),
        "best": eval_document(line.best if line else None),
        "difference": None
        if found is None
        else {
            "step": found.step,
            "value": found.value,
            "error": found.error,
            "n": found.n,
            "paired": found.paired,
            "word": None if found.word is None else found.word.value.replace(" ", "_"),
        },
    }


def comparison_document(settings: Settings, reader: ExperimentReader, names: Sequence[str]) -> dict[str, object]:
    """Return the comparison as a document for the API, its texts escaped; raise as `compare` does."""
    with queries.questions(settings.state) as connection:
        document = compare(connection, reader, names).document()
    lists = {key: escaped_documents(value) for key, value in document.items() if isinstance(value, list)}
    return {**document, **lists}


def compare(connection: Connection, reader: ExperimentReader, names: Sequence[str]) -> Comparison:
    """Compare the experiments of these names, which may be names of runs, or beginnings of names.

    Raise `Fatal` (4) for an unknown name and (2) for too few, too many or equal ones, `HaltedForSafety` and `Retry`.
    """
    if not FEWEST <= len(names) <= MOST:
        raise Fatal(
            f"{len(names)} experiments can't be compared",
            hint=f"give {FEWEST} to {MOST} names of experiments or runs; `harvestd experiments` lists them",
            exit_code=ExitCode.CONFIGURATION,
        )
    views = [_view(connection, reader, name) for name in names]
    for place, view in enumerate(views):
        first = next(n for n, each in enumerate(views) if each.experiment.id == view.experiment.id)
        if first < place:
            raise Fatal(
                f"{names[first]} and {names[place]} are the same experiment, {view.experiment.directory}",
                hint="name each experiment once",
                exit_code=ExitCode.CONFIGURATION,
            )
    return _compared(connection, reader, views)


def _view(connection: Connection, reader: ExperimentReader, name: str) -> ExperimentView:
    found = find(connection, name)
    if found.experiment is None:
        raise Fatal(
            f"{name} has no experiment yet",
            hint="`harvestd plan` says what it waits for",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    return reader.view(connection, found.experiment)


def _compared(connection: Connection, reader: ExperimentReader, views: Sequence[ExperimentView]) -> Comparison:
    experiments: list[Compared] = []
    configurations = []
    for view in views:
        known = reader.known(connection, view)
        training = reader.results.training(reader.root, known) if reader.root else None
        config = reader.results.configuration(reader.root, known) if reader.root else None
        experiments.append(Compared(view, training, config is not None))
        configurations.append(config)
    settings = by_setting([view.results.lines for view in views])
    keys = different_keys(configurations)
    return Comparison(
        experiments=tuple(experiments),
        tables=tuple(Table(setting, _rows(reader, views, lines)) for setting, lines in settings[:_MOST_SETTINGS]),
        more_settings=max(0, len(settings) - _MOST_SETTINGS),
        configuration=tuple(keys[:_MOST_KEYS]),
        more_keys=max(0, len(keys) - _MOST_KEYS),
    )


def _rows(reader: ExperimentReader, views: Sequence[ExperimentView], lines: Sequence[Line | None]) -> tuple[Row, ...]:
    first, *others = zip(views, lines, strict=True)
    differences = [_difference(reader, first, other) for other in others]
    return tuple(
        Row(view.experiment.directory, line, found)
        for (view, line), found in zip((first, *others), (None, *differences), strict=True)
    )


def _difference(
    reader: ExperimentReader,
    first: tuple[ExperimentView, Line | None],
    other: tuple[ExperimentView, Line | None],
) -> Difference | None:
    (view, line), (other_view, other_line) = first, other
    common = last_in_both(line, other_line) if line and other_line else None
    if common is None or reader.root is None:
        return None
    ours = reader.results.answers(reader.root, view.results, common[0])
    theirs = reader.results.answers(reader.root, other_view.results, common[1])
    return difference(*common, ours, theirs)
