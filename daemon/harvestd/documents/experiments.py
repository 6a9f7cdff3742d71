"""The experiments of the catalogue with their results: one form for `harvestd experiments`, `compare` and the API.

The files of an experiment are read again only when its records changed. Everything here blocks: call it in a thread.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from msgspec import field
from msgspec.structs import replace
from sqlalchemy import Connection

from harvestd.catalogue import queries
from harvestd.catalogue.queries import Holding, LeftOutTotal
from harvestd.convention.log_rows import whole
from harvestd.convention.structs import Immutable
from harvestd.documents.forms import Document, steps
from harvestd.documents.stored import RunStatuses, escaped_documents
from harvestd.json_text import timestamp
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord
from harvestd.planning.run_status import ORDER, CurrentStatus, RunStatus
from harvestd.report.results import Results, ResultsReader
from harvestd.report.scripts.evals import Eval, Setting
from harvestd.report.small_files import DRAWN, Known, Memory
from harvestd.settings import Settings
from harvestd.store.root import DataRoot

EXPERIMENT_KEYS: Final = """experiment, id, aliases[], gone, runs[], name, date,
  model, hardware, steps, state, state_since, finished, step, total_steps,
  evals, files, bytes, newest, left_out {entries, bytes, unknown},
  setting {dataset, temperature, top_p, r, subset}, settings,
  base, last, best {step, at, pass_rate, error, n, column, pass_at {k: mean}}"""
"""The keys of an experiment's document, for the help of commands."""

_EXPERIMENTS_REMEMBERED: Final = 10_000


class ExperimentView(Immutable):
    """One experiment, from the catalogue and its local files."""

    experiment: ExperimentRecord
    runs: tuple[RunRecord, ...]
    holding: Holding
    left_out: LeftOutTotal
    current: CurrentStatus | None
    """Of its run; None where no run was ever seen."""
    results: Results = field(default_factory=Results)

    @property
    def finished(self) -> bool:
        """Whether its run has finished."""
        return self.current is not None and self.current.status is RunStatus.FINISHED

    @property
    def newest_run(self) -> str:
        """The name of its newest run, which begins with the time; empty where it has none."""
        return max((run.name for run in self.runs), default="")

    @property
    def progress(self) -> tuple[int | None, int | None]:
        """The newest step of its run, and the last one there was or is to be."""
        return steps(max(self.runs, key=lambda run: run.step or 0)) if self.runs else (None, None)

    def part(self, name: str) -> str:
        """Return one part of its name."""
        return self.experiment.name.parts[name].value

    @property
    def last(self) -> Eval | None:
        """Its last eval with the settings that most of its evals have."""
        return self.results.main.last if self.results.main else None

    @property
    def best(self) -> Eval | None:
        """The one of these evals with the highest pass rate."""
        return self.results.main.best if self.results.main else None

    def document(self) -> Document:
        """Return its document, with `EXPERIMENT_KEYS`; times are RFC 3339, sizes bytes, null: not known."""
        step, total = self.progress
        main = self.results.main
        return {
            "experiment": self.experiment.directory,
            "id": self.experiment.id,
            "aliases": list(self.experiment.aliases),
            "gone": self.experiment.gone,
            "runs": [run.name for run in self.runs],
            "name": self.part("experiment_name"),
            "date": self.part("date"),
            "model": self.part("model"),
            "hardware": self.part("hardware"),
            "steps": whole(self.part("steps")),
            "state": self.current.status.value if self.current else None,
            "state_since": timestamp(self.current.since) if self.current else None,
            "finished": self.finished,
            "step": step,
            "total_steps": total,
            "evals": self.holding.evals,
            "files": self.holding.files,
            "bytes": self.holding.size,
            "newest": timestamp(self.holding.newest),
            "left_out": {
                "entries": self.left_out.entries,
                "bytes": self.left_out.size,
                "unknown": self.left_out.unknown,
            },
            "setting": setting_document(main.setting) if main else None,
            "settings": len(self.results.lines),
            "base": eval_document(main.base if main else None),
            "last": eval_document(self.last),
            "best": eval_document(self.best),
        }


def setting_document(setting: Setting) -> Document:
    """Return how was evaluated; null: not known."""
    return {
        "dataset": setting.dataset,
        "temperature": setting.temperature,
        "top_p": setting.top_p,
        "r": setting.generations,
        "subset": setting.subset,
    }


def eval_document(each: Eval | None) -> Document | None:
    """Return the figures of one eval; `column` says which column of metrics.csv the pass rate is from."""
    if each is None:
        return None
    return {
        "step": each.step,
        "at": each.at,
        "pass_rate": each.rate.value if each.rate else None,
        "error": each.rate.error if each.rate else None,
        "n": each.n,
        "column": each.rate_column or None,
        "pass_at": {str(k): mean.value for k in each.ks if (mean := each.passed(k))},
    }


def all_experiments(settings: Settings, reader: "ExperimentReader", limit: int) -> dict[str, object]:
    """Return the newest `limit` experiments as a document for the API, its texts escaped."""
    with queries.questions(settings.state) as connection:
        views = reader.views(connection, limit)
    return {"experiments": escaped_documents([view.document() for view in views])}


_Version = tuple[object, ...]
_NOTHING: Final = Holding(0, 0)


class ExperimentReader:
    """Reads experiments with their results, and remembers those of which nothing changed; for several threads.

    Without a data root, no results are read.
    """

    def __init__(self, root: DataRoot | None, results: ResultsReader) -> None:
        self.root = root
        self.results = results
        self._known: Memory[str, tuple[_Version, Results]] = Memory(_EXPERIMENTS_REMEMBERED)

    def views(self, connection: Connection, most: int | None = None) -> list[ExperimentView]:
        """Return all experiments, or the newest `most`, those with the newest run first.

        Raise `HaltedForSafety` and `Retry`.
        """
        return [self.with_results(connection, each) for each in outlines(connection, most)]

    def view(self, connection: Connection, experiment: ExperimentRecord) -> ExperimentView:
        """Return one experiment; raise as `views` does."""
        return self.with_results(connection, _Situation(connection).outline(experiment))

    def known(self, connection: Connection, view: ExperimentView) -> Known:
        """Return an experiment's records for reading its training and its configuration."""
        return Known(view.experiment, view.runs, self._small_files(connection, view.experiment.id))

    def with_results(self, connection: Connection, view: ExperimentView) -> ExperimentView:
        """Return an outline with its results; raise as `views` does."""
        experiment, holding = view.experiment, view.holding
        if self.root is None or not holding.evals or experiment.gone:
            return view
        version = (experiment.directory, holding)
        cached = self._known.get(experiment.id)
        if cached is not None and cached[0] == version:
            return replace(view, results=cached[1])
        found = self.results.of(self.root, self.known(connection, view))
        if found.is_whole:
            self._known.put(experiment.id, (version, found))
        return replace(view, results=found)

    @staticmethod
    def _small_files(connection: Connection, experiment: str) -> tuple[FileRecord, ...]:
        return tuple(queries.files_of_kinds(connection, experiment, DRAWN))


def outlines(connection: Connection, most: int | None = None) -> list[ExperimentView]:
    """Return all experiments, or the newest `most`, without their results, those with the newest run first."""
    situation = _Situation(connection)
    found = sorted(map(situation.outline, situation.experiments.values()), key=lambda each: each.experiment.directory)
    return sorted(found, key=lambda each: each.newest_run, reverse=True)[:most]


class _Situation:
    """What the catalogue holds of all experiments, each read once."""

    def __init__(self, connection: Connection) -> None:
        self.experiments = queries.experiments(connection)
        self._holdings: Mapping[str | None, Holding] = queries.holdings(connection)
        self._left_out: Mapping[str | None, LeftOutTotal] = queries.left_out_totals(connection)
        self._statuses = RunStatuses(connection)
        self._runs: dict[str | None, list[RunRecord]] = {}
        for run in queries.runs(connection):
            self._runs.setdefault(run.experiment, []).append(run)

    def outline(self, experiment: ExperimentRecord) -> ExperimentView:
        """Return an experiment without its results."""
        runs = self._runs.get(experiment.id, [])
        return ExperimentView(
            experiment=experiment,
            runs=tuple(runs),
            holding=self._holdings.get(experiment.id, _NOTHING),
            left_out=self._left_out.get(experiment.id, LeftOutTotal()),
            current=liveliest([self._statuses.of(run) for run in runs if run.was_seen]),
        )


def liveliest(found: Iterable[CurrentStatus]) -> CurrentStatus | None:
    """Return the most active status of an experiment's run with records of several storages; None without any."""
    return min(found, key=lambda each: ORDER.index(each.status), default=None)
