"""Repairs rows whose experiment was never recorded, at start-up, before anything is planned.

Earlier versions left such rows when the catalogue's disk was full while a run was found. Their files are here: they are
assigned to the experiment whose directory they are in, which is created from its manifest if it is not on record.
"""

from collections import Counter
from typing import TYPE_CHECKING

import anyio.to_thread
from msgspec.structs import replace

from harvestd.catalogue.entries import Orphans
from harvestd.convention.metadata.naming import UNKNOWN, ExperimentName, Part
from harvestd.convention.paths import LocalPath
from harvestd.errors import Fatal
from harvestd.planning.records import ExperimentRecord, RunRecord
from harvestd.planning.sections import UNFILED
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.manifest.file import NAME as MANIFEST
from harvestd.store.manifest.file import manifest_owner, read_manifest
from harvestd.store.root import DataRoot
from harvestd.store.versions import set_aside
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    from harvestd.catalogue.repository import Catalogue


async def adopt_orphans(catalogue: "Catalogue", root: DataRoot) -> list[str]:
    """Assign each row without an experiment to one, or drop it; return the experiments that got rows.

    The rows of an experiment whose run is not on record are dropped, and so are those of a run without any file here:
    they are found again as soon as a host shows them, and their files are adopted. Raise `HaltedForSafety`.
    """
    orphans = catalogue.restoring.orphans
    if not orphans.runs and not orphans.files:
        return []
    at_home = {each.directory: each.id for each in catalogue.knowledge.experiments() if not each.gone}
    whose: dict[str, str] = {}
    made: list[ExperimentRecord] = []
    runs: list[RunRecord] = []
    for identifier, directory in _directories(orphans).items():
        own = [run for run in orphans.runs if run.experiment == identifier]
        if directory not in at_home:
            experiment, named = await anyio.to_thread.run_sync(_read, root, directory, identifier)
            own = own or [run for run in named if catalogue.knowledge.run_at(*run.key) is None]
            if not own:
                continue
            made.append(experiment)
            at_home[directory] = experiment.id
        whose[identifier] = at_home[directory]
        if whose[identifier] != identifier:
            await anyio.to_thread.run_sync(_set_manifest_aside, root, directory, identifier)
        runs += [replace(run, experiment=at_home[directory]) for run in own]
    for run in (each for each in orphans.runs if each.experiment not in whose):
        experiment_id = await catalogue.files.experiment_below(run.storage, run.place)
        if experiment_id is not None:
            runs.append(replace(run, experiment=experiment_id))
    homes = {identifier: directory for directory, identifier in at_home.items()}
    files = tuple(
        replace(file, experiment=whose[file.experiment])
        for file in orphans.files
        if file.experiment in whose and file.target.parts[0] == homes[whose[file.experiment]]
    )
    await catalogue.restoring.adopt(Orphans(tuple(runs), files), made)
    get_logger().warning(
        Event.CATALOGUE_REPAIRED,
        path=root.path,
        experiments=len(made),
        runs=len(runs),
        files=len(files),
        dropped=len(orphans.files) - len(files),
        error="rows were found whose experiment is not on record",
    )
    return sorted(set(whose.values()))


def _set_manifest_aside(root: DataRoot, directory: str, owner: str) -> None:
    """Move a directory's manifest to the versions if it belongs to an experiment that was replaced by another one."""
    try:
        if manifest_owner(root, LocalPath((directory,))) == owner:
            set_aside(root, LocalPath((directory, MANIFEST)))
    except (Damaged, Refused, Fatal, Conflict):
        return


def _directories(orphans: Orphans) -> dict[str, str]:
    """Return the directory that holds most files of each experiment, by experiment id."""
    counted: dict[str, Counter[str]] = {}
    for file in orphans.files:
        if file.experiment is not None and file.target.parts[0] != UNFILED:
            counted.setdefault(file.experiment, Counter())[file.target.parts[0]] += 1
    return {identifier: found.most_common(1)[0][0] for identifier, found in counted.items()}


def _read(root: DataRoot, directory: str, identifier: str) -> tuple[ExperimentRecord, tuple[RunRecord, ...]]:
    """Return a directory's experiment and runs by its manifest, or else an experiment named like the directory."""
    from harvestd.audit.rebuilding import experiment_of, runs_of  # noqa: PLC0415  (rarely needed at start-up)

    place = LocalPath((directory,))
    try:
        manifest = read_manifest(root, place)
        if manifest is not None and manifest.experiment.id == identifier:
            experiment = experiment_of(manifest, directory)
            return experiment, runs_of(root, place, experiment, manifest)
    except (Damaged, Refused, Fatal, Conflict):
        pass
    unknown = Part(UNKNOWN, "no source")
    name = ExperimentName(unknown, unknown, unknown, unknown, unknown)
    return ExperimentRecord(identifier, name, moved_to=directory), ()
