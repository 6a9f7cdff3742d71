"""Recovery at start: unfinished intents, a lost catalogue, and rows without an experiment.

Repairs rows whose experiment was never recorded, at start-up, before anything is planned. Earlier versions left such
rows when the catalogue's disk was full while a run was found. Their files are here: they are assigned to the
experiment whose directory they are in, which is created from its manifest if it is not on record.
"""

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio.to_thread
from msgspec.structs import replace

from harvestd import failpoints
from harvestd.catalogue.entries import Intent, Orphans
from harvestd.convention.metadata.naming import UNKNOWN, ExperimentName, Part
from harvestd.convention.paths import LocalPath
from harvestd.errors import Fatal
from harvestd.planning.records import UNFILED, ExperimentRecord, FileRecord, RunRecord
from harvestd.store.checksums import verify_hashes
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.manifest import NAME as MANIFEST
from harvestd.store.manifest import manifest_owner, read_manifest
from harvestd.store.root import DataRoot
from harvestd.store.versions import set_aside
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    from harvestd.catalogue.repository import Catalogue
    from harvestd.catalogue.restore import RestoredRecords
    from harvestd.harvest.rebuild import Rebuilt, Unreadable


async def recover(catalogue: "Catalogue", root: DataRoot) -> list[FileRecord]:
    """Record what was published but not recorded; drop temporaries and journal entries that lack each other.

    Return the new records: no manifest contains them yet.
    """
    recorded = await settle(catalogue, root, await catalogue.intents())
    failpoints.reach("recovery.settled")
    journalled = {transfer.name for transfer in await catalogue.transfers.all()}
    await anyio.to_thread.run_sync(root.clean_staging, journalled)
    failpoints.reach("recovery.cleaned")
    lost = sorted(journalled - set(await anyio.to_thread.run_sync(root.staged_names)))
    if lost:
        await catalogue.transfers.drop(lost)
    return recorded


async def settle(catalogue: "Catalogue", root: DataRoot, intents: Sequence[Intent]) -> list[FileRecord]:
    """Record the files of these intents that exist, and drop the intents; return the new records.

    A process that ended between a rename and its row left a file that is not in the catalogue: the intent names the
    file, and its hash shows whether it is there. If the process ended while files were being removed, some of them
    still exist; their records come back, and the next plan removes them. A file that was being moved gets its new
    record once nothing is at its old path. Raise `HaltedForSafety`; the intents remain then.
    """
    known = catalogue.knowledge.has_experiment
    files = [
        (file, intent.moved_from[at] if intent.moved_from else None)
        for intent in intents
        for at, file in enumerate(intent.files)
        if file.experiment is None or known(file.experiment)
    ]
    proofs = [(file.target, file.sha256) for file, _ in files]
    matching = await anyio.to_thread.run_sync(verify_hashes, root, proofs)
    still = await anyio.to_thread.run_sync(_still_there, root, [old for _, old in files if old is not None])
    here = [(file, old) for (file, old), matches in zip(files, matching, strict=True) if matches and old not in still]
    recorded = [file for file, _ in here]
    before = [(file, await catalogue.files.holder(old)) for file, old in here if old is not None]
    gone = [record for file, record in before if record is not None and record.place == file.place]
    await catalogue.save_files(recorded, intents, gone)
    return recorded


def _still_there(root: DataRoot, paths: Sequence[LocalPath]) -> set[LocalPath]:
    return {path for path in paths if root.stat(path) is not None}


async def rebuild(catalogue: "Catalogue", root: DataRoot) -> None:
    """Record all files that match their manifests, in one transaction, and log it once.

    A process that ends in between has recorded nothing, and the next one starts over. Raise `HaltedForSafety`.
    """
    found, skipped = await anyio.to_thread.run_sync(_read, root)
    failpoints.reach("rebuild.read")
    await catalogue.restoring.restore(_read_back(found))
    if not found and not skipped:
        return
    files = [file for each in found for file in each.files]
    get_logger().warning(
        Event.CATALOGUE_REBUILT,
        path=root.path,
        experiments=sum(each.experiment is not None for each in found),
        runs=sum(len(each.runs) for each in found),
        files=len(files),
        bytes=sum(file.size for file in files),
        skipped=[f"{one.directory}: {one.reason}" for one in skipped]
        + [f"{each.directory}: {each.lost} files are not as its manifest says" for each in found if each.lost],
        hint="host keys were in it too: compare the ones that are pinned now, or put the old catalogue back",
    )


def _read(root: DataRoot) -> "tuple[list[Rebuilt], list[Unreadable]]":
    from harvestd.harvest.rebuild import read_back  # noqa: PLC0415  (rarely needed at start-up)

    return read_back(root)


def _read_back(found: "Sequence[Rebuilt]") -> "RestoredRecords":
    from harvestd.catalogue.restore import RestoredRecords  # noqa: PLC0415  (imported by a thread of `startup.open`)
    from harvestd.harvest.rebuild import remembered  # noqa: PLC0415  (rarely needed at start-up)

    known: set[tuple[str, str]] = set()
    runs: list[RunRecord] = []
    for run in (run for each in found for run in each.runs):
        # Two manifests name one run if the operator copied more than a directory: the first one keeps it.
        if run.key not in known:
            known.add(run.key)
            runs.append(run)
    requests = [
        request
        for each in found
        if each.runs
        for request in remembered(each.runs[0], each.files, [line for _, line in each.left_out])
    ]
    return RestoredRecords(
        experiments=[each.experiment for each in found if each.experiment is not None],
        runs=runs,
        files=[file for each in found for file in each.files],
        links={path: target for each in found for path, target in each.links.items()},
        requests=requests,
        left_out=[
            (host, each.experiment.id if each.experiment else None, entry)
            for each in found
            for host, entry in each.left_out
        ],
    )


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
            experiment, named = await anyio.to_thread.run_sync(_read_manifest, root, directory, identifier)
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


def _read_manifest(root: DataRoot, directory: str, identifier: str) -> tuple[ExperimentRecord, tuple[RunRecord, ...]]:
    """Return a directory's experiment and runs by its manifest, or else an experiment named like the directory."""
    from harvestd.harvest.rebuild import experiment_of, runs_of  # noqa: PLC0415  (rarely needed at start-up)

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
