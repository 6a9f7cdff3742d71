"""Updates experiment names: a run that has finished and is quiet is named by what is known of it by then."""

import time
from collections.abc import Iterator

from msgspec.structs import replace

from harvestd.convention.metadata.naming import name_run
from harvestd.convention.scan.model import RunDir, ScanResult
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.harvest.context import Context
from harvestd.harvest.experiments.rename import rename
from harvestd.inventory.host import Host
from harvestd.planning.identity.duplicates import is_part, leader
from harvestd.planning.identity.lineage import dated, with_parents
from harvestd.planning.identity.name_updates import followed
from harvestd.planning.plan import Plan
from harvestd.planning.records import RunRecord
from harvestd.remote.api import BoxFacts
from harvestd.store.root import DataRoot


class AutomaticNames:
    """Updates the names of the experiments of one host's runs."""

    def __init__(self, host: Host, context: Context, root: DataRoot, facts: BoxFacts) -> None:
        self._host = host
        self._context = context
        self._root = root
        self._gpu_names = facts.gpu_names
        self._settled: dict[str, Version | None] = {}
        """Maps a run's remote path to the version of step_final for which its name is up to date."""

    async def follow(self, seen: ScanResult, plan: Plan, sightings: StabilityTracker, quiet: float) -> None:
        """Rename what has finished, is all here, and has not grown for `quiet` seconds. Raise `HaltedForSafety`."""
        due = list(self._due(seen))
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
        showing = self._context.states.evals_of_others(self._context.storage_of(self._host))
        knowledge = self._context.catalogue.knowledge
        return is_own and not is_part(record, knowledge) and leader(record, knowledge, showing) is None

    async def _follow(self, run: RunDir, record: RunRecord) -> None:
        self._settled[run.place] = record.final_version
        knowledge = self._context.catalogue.knowledge
        experiment = knowledge.experiment(record.experiment or "")
        context = self._context.naming_of(self._host, self._gpu_names, record.writer)
        evidence = dated(with_parents(record.evidence, knowledge.runs_named, context.models), run)
        facts = name_run(run.name, evidence, context)
        if knowledge.runs_of(experiment.id)[0].key != record.key:
            # The host that was seen first is gone; this host's hardware is not that of the run.
            facts = replace(facts, hardware=experiment.name.hardware)

        def is_taken(directory: str) -> bool:
            return knowledge.is_directory_taken(directory, by_other_than=experiment.id)

        name = followed(experiment, facts, run.name, self._host.name, is_taken)
        if name != experiment.name:
            await rename(self._context, self._root, experiment, name)
