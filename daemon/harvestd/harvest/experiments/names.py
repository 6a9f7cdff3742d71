"""Names of experiments: those set by hand or by an edited directory, and updates from new facts."""

import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from msgspec.structs import replace

from harvestd.convention.kinds import RunName, finetuned, run_name
from harvestd.convention.metadata.models import model_in_names
from harvestd.convention.metadata.naming import UNKNOWN, ExperimentName, Part, is_plain, name_run
from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.scan.model import RunDir, ScanResult
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.convention.structs import Immutable
from harvestd.harvest.context import Context
from harvestd.harvest.experiments.rename import Refiling, refile, rename
from harvestd.inventory.host import Host
from harvestd.planning.identity import BY_HAND, dated, followed, given, is_part, leader, with_parents
from harvestd.planning.plan import Plan
from harvestd.planning.records import UNFILED, ExperimentRecord, FileRecord, RunRecord
from harvestd.planning.requests import REFUSED, Request
from harvestd.remote.api import BoxFacts
from harvestd.store.publish import Result
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    from harvestd.catalogue.loading import Lease

_UNREAD = Version(-1, 0)
"""The version of a config.yaml that was not read: if the run appears after all, it is read then."""


class Waiting(Immutable):
    """The evals in `_unfiled` of one run that was never seen."""

    run: RunName
    files: tuple[FileRecord, ...]


def waiting_evals(unfiled: Sequence[FileRecord], name: str) -> Waiting | None:
    """Return the files of `_unfiled` that wait for the run called `name`."""
    found = [file for file in unfiled if (at := _level(file)) is not None and _named(file, at).name == name]
    return Waiting(_named(found[0], _level(found[0]) or 0), tuple(found)) if found else None


def _level(file: FileRecord) -> int | None:
    """Return the index of the component of an unfiled file's path that names its run."""
    parts = file.target.parts
    return next((at for at, part in enumerate(parts) if parts[0] == UNFILED and at > 1 and run_name(part)), None)


def _named(file: FileRecord, at: int) -> RunName:
    found = run_name(file.target.parts[at])
    if found is None:
        raise ValueError(f"{file.target.parts[at]} names no run")
    return found


async def apply_name_request(context: Context, root: DataRoot, request: Request) -> str:
    """Execute a request for a name; return its outcome, empty while files of the run still grow here.

    The detail of such a request is {"name": the first part, "experiment": an id} or, for evals whose run was never
    seen, {"name": …, "run": the run's name}. Raise `HaltedForSafety`.
    """
    knowledge, name = context.catalogue.knowledge, str(request.detail.get("name", ""))
    identifier = str(request.detail.get("experiment", ""))
    wanted = str(request.detail.get("run", ""))
    waiting = waiting_evals(await context.catalogue.files.files_of(None) if wanted else (), wanted)
    if not is_plain(name):
        return f"{REFUSED}{name!r} can't be a name"
    if waiting is not None:
        return f"filed in {(await file_waiting(context, root, waiting, name)).directory}"
    if not knowledge.has_experiment(identifier) or not knowledge.runs_of(identifier):
        return f"{REFUSED}there is nothing to name any more"
    connected_storages = {state.visible.storage for state in context.states.all() if state.visible is not None}
    if any(not run.is_over and run.storage in connected_storages for run in knowledge.runs_of(identifier)):
        return ""
    experiment = await name_experiment(context, root, identifier, name)
    called = experiment.name.experiment_name
    if (called.value, called.source) != (name, BY_HAND):
        return f"{REFUSED}the directory can't be moved"
    return f"{experiment.directory} now"


async def name_experiment(context: Context, root: DataRoot, identifier: str, experiment_name: str) -> ExperimentRecord:
    """Name an experiment; return its record, which is unchanged if its directory can't move.

    Raise `HaltedForSafety`.
    """
    knowledge = context.catalogue.knowledge
    experiment = knowledge.experiment(identifier)
    run = knowledge.runs_of(identifier)[0]
    of_run = run_name(run.place.rpartition("/")[2]) or run_name(run.name)
    if of_run is None:
        return experiment

    def is_taken(directory: str) -> bool:
        return knowledge.is_directory_taken(directory, by_other_than=identifier)

    await rename(context, root, experiment, given(experiment.name, experiment_name, of_run, run.host, is_taken))
    return knowledge.experiment(identifier)


async def file_waiting(context: Context, root: DataRoot, waiting: Waiting, experiment_name: str) -> ExperimentRecord:
    """Create an experiment for evals whose run was never seen, and move them there. Raise `HaltedForSafety`.

    If the run appears after all, its files go there too. A call after a crash continues the work.
    """
    async with context.directory_lock.still():
        async with context.catalogue.discovering.hold(waiting.run.name):
            experiment = await _experiment_for(context, waiting, experiment_name)
        files = [each for file in waiting.files if (each := _refiled(file, experiment)) is not None]
        for file, result in zip(files, await refile(context.catalogue, root, files), strict=True):
            _report_conflict(file, result)
    context.changes.touch([None, experiment.id])
    return experiment


async def _experiment_for(context: Context, waiting: Waiting, experiment_name: str) -> ExperimentRecord:
    knowledge = context.catalogue.knowledge
    first = waiting.files[0]
    begun = knowledge.run_at(first.storage, _place(context, first, waiting.run))
    if begun is not None and begun.experiment is not None:
        return knowledge.experiment(begun.experiment)
    name = _name(waiting, experiment_name, context.settings.naming.models)
    name = given(name, experiment_name, waiting.run, first.host, knowledge.is_directory_taken)
    experiment = ExperimentRecord(uuid.uuid4().hex, name)
    run = RunRecord(
        id=uuid.uuid4().hex,
        storage=first.storage,
        place=_place(context, first, waiting.run),
        host=first.host,
        name=waiting.run.name,
        config=ConfigFacts(),
        config_version=_UNREAD,
        experiment=experiment.id,
    )
    await context.catalogue.save_discovery(experiment, run)
    sources = {part: found.source for part, found in name.parts.items()}
    get_logger().info(
        Event.EXPERIMENT_NAMED, run_id=run.name, experiment=name.directory, path=name.directory, sources=sources
    )
    return experiment


def _name(waiting: Waiting, experiment_name: str, models: Mapping[str, str]) -> ExperimentName:
    parts = {part for file in waiting.files for part in file.target.parts}
    tuned = sorted({found.backbone for part in parts if (found := finetuned(part))})
    named = model_in_names(tuned[0], models) if len(tuned) == 1 else ""
    model = Part(named, "eval directory") if named else Part(UNKNOWN, "no source")
    unknown = Part(UNKNOWN, "no source")
    date = Part(waiting.run.date, "run directory")
    return ExperimentName(Part(experiment_name, BY_HAND), date, model, unknown, unknown)


def _place(context: Context, file: FileRecord, run: RunName) -> str:
    """Return where the run would be on the host, judging by the path of its evals."""
    dirs = context.settings.remote
    for directory in dirs.eval_dirs:
        root, found, _ = file.place.partition(f"/{directory}/")
        if found:
            return f"{root}/{dirs.training_dirs[0]}/{run.name}"
    return f"{file.place.rpartition('/')[0]}/{run.name}"


def _refiled(file: FileRecord, experiment: ExperimentRecord) -> Refiling | None:
    """Return the move of an unfiled file; None if its new path is invalid."""
    log = get_logger().bind(host=file.host, path=file.target)
    try:
        target = LocalPath((experiment.directory, "eval_results", *file.target.parts[_level(file) :]))
    except RejectedPath as error:
        log.warning(Event.FILE_CONFLICT, error=f"its place in {experiment.directory} can't be made: {error}")
        return None
    return Refiling(file, replace(file, target=target, experiment=experiment.id))


def _report_conflict(file: Refiling, result: Result) -> None:
    log = get_logger().bind(host=file.before.host, path=file.after.target)
    if result in {Result.PUBLISHED, Result.ADOPTED}:
        log.info(Event.FILE_FILED, old=file.before.target)
    else:
        log.warning(Event.FILE_CONFLICT, error=f"it waits at {file.before.target} and can't be moved here: {result}")


class AutomaticNames:
    """Updates the names of the experiments of one host's runs."""

    def __init__(self, host: Host, context: Context, root: DataRoot, facts: BoxFacts) -> None:
        self._host = host
        self._context = context
        self._root = root
        self._gpu_names = facts.gpu_names
        self._settled: dict[str, Version | None] = {}
        """Maps a run's remote path to the version of step_final for which its name is up to date."""

    async def follow(
        self, seen: ScanResult, plan: Plan, sightings: StabilityTracker, quiet: float, lease: "Lease"
    ) -> None:
        """Rename what has finished, is all here, and has not grown for `quiet` seconds. Raise `HaltedForSafety`.

        `lease` loads the records that this depends on.
        """
        due = await lease.evaluated(lambda: list(self._due(seen)))
        if not due:
            return
        busy = {group.place for group in plan.groups} | {each.place for each in plan.follows}
        busy |= {each.place for each in plan.waiting}
        now = time.monotonic()
        for run, record in due:
            below = f"{run.place}/"
            grown = min((sightings.age(each.source, now) for each in run.growing), default=quiet)
            if grown >= quiet and not any(place.startswith(below) for place in busy):
                await self._follow(run, record)

    def _due(self, seen: ScanResult) -> Iterator[tuple[RunDir, RunRecord]]:
        storage, knowledge = self._context.storage_of(self._host), self._context.catalogue.knowledge
        for run in seen.runs:
            record = knowledge.run_at(storage, run.place)
            if record is not None and record.finished and record.experiment and self._leads(record):
                settled = self._settled.get(run.place) == record.final_version
                if not settled and not knowledge.is_gone(record.experiment):
                    yield run, record

    def _leads(self, record: RunRecord) -> bool:
        """Return whether the run is fetched from this host, of those that show it or parts of it."""
        is_own = record.is_of(self._host.name, self._host.identity)
        connected_storages = self._context.states.evals_of_others(self._context.storage_of(self._host))
        knowledge = self._context.catalogue.knowledge
        return is_own and not is_part(record, knowledge) and leader(record, knowledge, connected_storages) is None

    async def _follow(self, run: RunDir, record: RunRecord) -> None:
        self._settled[run.place] = record.final_version
        knowledge = self._context.catalogue.knowledge
        experiment = knowledge.experiment(record.experiment or "")
        context = self._context.naming_of(self._host, self._gpu_names, record.writer)
        naming_facts = dated(with_parents(record.naming_facts, knowledge.runs_named, context.models), run)
        facts = name_run(run.name, naming_facts, context)
        if knowledge.runs_of(experiment.id)[0].key != record.key:
            # The host that was seen first is gone; this host's hardware is not that of the run.
            facts = replace(facts, hardware=experiment.name.hardware)

        def is_taken(directory: str) -> bool:
            return knowledge.is_directory_taken(directory, by_other_than=experiment.id)

        name = followed(experiment, facts, run.name, self._host.name, is_taken)
        if name != experiment.name:
            await rename(self._context, self._root, experiment, name)
