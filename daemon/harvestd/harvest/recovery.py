"""What the last process left half done, settled before work begins: intents and temporaries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio.to_thread

from harvestd import failpoints
from harvestd.catalogue.entries import Intent
from harvestd.convention.paths import LocalPath
from harvestd.convention.records import ExperimentRecord
from harvestd.store.failures import Conflict
from harvestd.store.manifest_file import NAME
from harvestd.store.root import DataRoot
from harvestd.store.standing import standing

if TYPE_CHECKING:
    from harvestd.catalogue.catalogue import Catalogue


async def recover(catalogue: "Catalogue", root: DataRoot) -> None:
    """Record what was published but not recorded; drop temporaries that nobody journalled, and journals without one."""
    await settle(catalogue, root, await catalogue.intents())
    failpoints.reach("recovery.settled")
    journalled = {transfer.name for transfer in await catalogue.transfers()}
    await anyio.to_thread.run_sync(root.clean_staging, journalled)
    failpoints.reach("recovery.cleaned")
    lost = sorted(journalled - set(await anyio.to_thread.run_sync(root.staged_names)))
    if lost:
        await catalogue.drop_transfers(lost)


async def settle(catalogue: "Catalogue", root: DataRoot, intents: Sequence[Intent]) -> None:
    """Record what stands of these intents, and drop them.

    Whoever ended between a rename and its row left a file that the catalogue does not know: the intent says what was
    to stand there, and the file's hash whether it does. Raises `HaltedForSafety`; the intents stay then.
    """
    files = [file for intent in intents for file in intent.files]
    stand = await anyio.to_thread.run_sync(standing, root, [(file.target, file.sha256) for file in files])
    await catalogue.save_files([file for file, stands in zip(files, stand, strict=True) if stands], intents)


async def behind(catalogue: "Catalogue", root: DataRoot) -> set[str]:
    """Give the experiments whose manifest is missing, or older than what is on record: its writer was killed."""
    return await anyio.to_thread.run_sync(_behind, catalogue, root)


def _behind(catalogue: "Catalogue", root: DataRoot) -> set[str]:
    knowledge = catalogue.knowledge
    found = set[str]()
    for experiment in knowledge.experiments():
        newest = max((file.fetched_at for file in knowledge.files_of(experiment.id)), default=0.0)
        if newest and _written_at(experiment, root) < newest:
            found.add(experiment.id)
    return found


def _written_at(experiment: ExperimentRecord, root: DataRoot) -> float:
    try:
        manifest = root.stat(LocalPath((experiment.directory, NAME)))
    except Conflict:
        # A person put something in the directory's place: whoever writes there says so.
        return 0.0
    return manifest.st_mtime if manifest else 0.0
