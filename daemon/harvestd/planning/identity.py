"""Identity of runs: one run on several storages, and the run that an eval belongs to. Pure.

Detects one run on several storages: seen through a shared file system, or written in parts to several disks. Pure.
Two keys are views of one run only if their config.yaml *and* the first lines of their logs are identical; equal runs
that two hosts started in the same second differ in the second. Until there is a line, the later one waits. A
directory with checkpoints and without a log is a part of the one run with its name and config.yaml that has a log. If
there are several such runs, or none, it is not assigned: then a later scan or the operator decides.

Finds the model of a run that was trained from a checkpoint of another run: the other run's own model. Pure. Runs are
found by directory name, on any storage; if runs of one name were trained from different models, none is used.

Updates an experiment's name from newer facts. Pure. The parts that a person or a rule chose, and the day, do not
change; model, hardware and steps take their present values, but a known value never becomes unknown again.
"""

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Final

from msgspec.structs import replace

from harvestd.convention.kinds import RunName, run_name
from harvestd.convention.metadata.models import model_id, model_in_names, run_of_reference
from harvestd.convention.metadata.naming import UNKNOWN, ExperimentName, NamingFacts, Part, free_name
from harvestd.convention.scan.model import RunDir
from harvestd.convention.structs import Immutable
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord

NO_LOG: Final = ""
"""Instead of the hash of a log's first line: the directory has checkpoints and no log."""
_LOG = ("training_run", "logs", "train_log.jsonl")
"""Relative to the experiment's directory."""


class Fingerprint(Immutable):
    """Distinguishes runs of the same name."""

    config: str
    """SHA-256 of its config.yaml."""
    head: str | None
    """SHA-256 of its log's first line; None while there is none; `NO_LOG` for a possible part of another run."""


class Undecidable(Immutable):
    """It is not known yet whether this is the same run as another one."""

    other: RunRecord


def head_of(beginning: bytes) -> str | None:
    """Return the SHA-256 of a log's first line, newline included, from its first bytes; None if it is incomplete."""
    end = beginning.find(b"\n") + 1
    return hashlib.sha256(beginning[:end]).hexdigest() if end else None


def same_run_elsewhere(
    name: str, storage: str, seen: Fingerprint, knowledge: PlanningIndex, connected_storages: Collection[str]
) -> RunRecord | Undecidable | None:
    """Return the run of another storage that equals this one or contains it as a part; None if it is a run of its own.

    `connected_storages`: the storages whose hosts are connected now, where a first line may still appear.
    """
    alike = [
        run
        for run in knowledge.runs_named(name)
        if run.storage != storage and run.experiment and run.config_hash == seen.config
    ]
    if seen.head == NO_LOG:
        return _whole_of(alike)
    same = next((run for run in alike if seen.head is not None and run.head == seen.head), None)
    if same is not None:
        return same
    for run in alike:
        if seen.head is None or (run.head is None and run.storage in connected_storages):
            return Undecidable(run)
    # Parts that were seen before the log; if an experiment has a log by now, its parts belong to another run.
    parts = {run.experiment: run for run in alike if not any(each.head for each in knowledge.runs_of(run.experiment))}
    joined = [run for run in parts.values() if run.head == NO_LOG]
    return joined[0] if len(joined) == 1 else None


def _whole_of(alike: Sequence[RunRecord]) -> RunRecord | Undecidable | None:
    """Return the run with a log of which a directory without one is a part; undecidable if it is ambiguous."""
    if not alike:
        return None
    first = next((run for run in alike if run.head), None)
    if first is not None and len({run.experiment for run in alike}) == 1:
        return first
    return Undecidable(first or alike[0])


def views_of(run: RunRecord, knowledge: PlanningIndex) -> list[RunRecord]:
    """Return the records of the same directory, including `run` itself, but without parts on other disks."""
    fellows = knowledge.runs_of(run.experiment) if run.experiment else []
    return [each for each in fellows if each.head == run.head] if run.head and len(fellows) > 1 else [run]


def principal(run: RunRecord, knowledge: PlanningIndex) -> RunRecord:
    """Return the record from which a run on several disks is named and evaluated: that of the local log's source."""
    fellows = knowledge.runs_of(run.experiment) if run.experiment else []
    if len(fellows) <= 1:
        return run
    log = _log_of(run, knowledge)
    return min(fellows, key=lambda each: (log is None or each.storage != log.storage, not each.head))


def is_part(run: RunRecord, knowledge: PlanningIndex) -> bool:
    """Return whether a record belongs to a disk that has only a part of a run, without its log."""
    first = principal(run, knowledge)
    return first.key != run.key and not (run.head and run.head == first.head)


def views_to_fetch(run: RunRecord, knowledge: PlanningIndex, connected_storages: Collection[str]) -> list[RunRecord]:
    """Return the views from which a run may be fetched now, on its own or a connected storage; the best first.

    The view that provided the log continues it, since two would write to one file when a disconnected host is back;
    otherwise the first view is the one that was seen first.
    """
    views = views_of(run, knowledge)
    if len(views) <= 1:
        return views
    log = _log_of(run, knowledge)
    there = [view for view in views if view.storage == run.storage or view.storage in connected_storages]
    return sorted(there, key=lambda view: log is None or view.storage != log.storage)


def leader(run: RunRecord, knowledge: PlanningIndex, connected_storages: Collection[str]) -> RunRecord | None:
    """Return the view from which the run is fetched now; None if that is `run` itself."""
    first = next(iter(views_to_fetch(run, knowledge, connected_storages)), run)
    return None if first.key == run.key else first


def _log_of(run: RunRecord, knowledge: PlanningIndex) -> FileRecord | None:
    if not run.experiment:
        return None
    return knowledge.holder_at((knowledge.experiment(run.experiment).directory, *_LOG))


RunsNamed = Callable[[str], Sequence[RunRecord]]
"""Returns all runs of one name (`run_2025-08-20_03-31-43`)."""

_MAX_DEPTH: Final = 16
"""The maximal length of a chain of runs, each trained from the previous one."""


def with_parents(facts: NamingFacts, runs_named: RunsNamed, aliases: Mapping[str, str]) -> NamingFacts:
    """Return `facts` with the models of the runs to which its model references lead."""
    lineage = Lineage(runs_named, aliases)
    runs = {run for reference in _references(facts) if (run := run_of_reference(reference))}
    models = {run: model for run in runs if (model := lineage.model_of_run(run))}
    return replace(facts, parents=models)


def dated(facts: NamingFacts, run: RunDir) -> NamingFacts:
    """Return `facts` with the times of a run's files, for a directory whose name has no valid time."""
    written = None if run.config is None else run.config.version.mtime_ns // 10**9
    return replace(facts, events_began=run.events_began, config_written=written)


class Lineage:
    """Follows references from run to run, each run once."""

    def __init__(self, runs_named: RunsNamed, aliases: Mapping[str, str]) -> None:
        self._runs_named = runs_named
        self._aliases = aliases
        self._known: dict[str, str | None] = {}
        """By run directory name; None also while the look-up is in progress, which ends every cycle."""

    def model_of_reference(self, reference: str, depth: int = 0) -> str | None:
        """Return the model that a reference names, or the model of the run to which it leads; None if there is none."""
        run = run_of_reference(reference)
        return model_id(reference, self._aliases) or (self.model_of_run(run, depth + 1) if run else None)

    def model_of_run(self, directory: str, depth: int = 0) -> str | None:
        """Return the model of the run with this directory name."""
        if directory not in self._known and depth < _MAX_DEPTH:
            self._known[directory] = None
            found = {model for run in self._runs(directory) if (model := self._own_model(run, depth))}
            if len({model_in_names(model, self._aliases) for model in found}) == 1:
                self._known[directory] = min(found)
        return self._known.get(directory)

    def _runs(self, directory: str) -> Sequence[RunRecord]:
        name = run_name(directory)
        named = self._runs_named(name.name) if name else ()
        # Beside run_T there may be a run_T_copy; the whole name decides which one is meant.
        return [run for run in named if run.place.rpartition("/")[2] == directory] or named

    def _own_model(self, run: RunRecord, depth: int) -> str | None:
        models = (self.model_of_reference(reference, depth) for reference in _references(run.naming_facts))
        return next(filter(None, models), None)


def _references(facts: NamingFacts) -> Iterator[str]:
    """Yield the references to a model, in the order of `naming`."""
    final = facts.final.backbone if facts.final else None
    yield from filter(None, (facts.config.backbone, final, facts.base_model))
    yield from _only(facts.backbones)


def _only(backbones: Iterable[str]) -> Iterable[str]:
    known = list(backbones)
    return known if len(known) == 1 else ()


BY_HAND: Final = "harvestd name"
"""The source of a name chosen by a person: facts never change it."""

IsTaken = Callable[[str], bool]
"""Returns whether another experiment has, or had, a directory of this name."""


def followed(
    experiment: ExperimentRecord, facts: ExperimentName, run: RunName, host: str, is_taken: IsTaken
) -> ExperimentName:
    """Return the name that the experiment of `run` should have; `facts` is the run's name computed anew."""
    now = experiment.name
    if experiment.moved_to is not None or now.experiment_name.source == BY_HAND:
        return now
    after = replace(
        now,
        model=_newer(now.model, facts.model),
        hardware=_newer(now.hardware, facts.hardware),
        steps=_newer(now.steps, facts.steps),
    )
    if after.directory == now.directory:
        return after
    return free_name(replace(after, date=facts.date), run, host, is_taken)


def _newer(now: Part, facts: Part) -> Part:
    return now if facts.value == UNKNOWN else facts


def given(name: ExperimentName, experiment_name: str, run: RunName, host: str, is_taken: IsTaken) -> ExperimentName:
    """Return `name` with the first part chosen by a person; its date part may change if its directory is taken."""
    date = Part(run.date, "run directory") if run.started is not None else name.date
    chosen = replace(name, experiment_name=Part(experiment_name, BY_HAND), date=date)
    return free_name(chosen, run, host, is_taken)
