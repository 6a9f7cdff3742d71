"""What the last process left half done, settled before work begins: intents and temporaries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio.to_thread

from harvestd import failpoints
from harvestd.catalogue.entries import Intent
from harvestd.convention.records import FileRecord
from harvestd.store.root import DataRoot
from harvestd.store.standing import standing

if TYPE_CHECKING:
    from harvestd.catalogue.catalogue import Catalogue


async def recover(catalogue: "Catalogue", root: DataRoot) -> list[FileRecord]:
    """Record what was published but not recorded; drop temporaries that nobody journalled, and journals without one.

    Gives what was recorded: no manifest knows it yet.
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
    """Record what stands of these intents, and drop them; gives what was recorded.

    Whoever ended between a rename and its row left a file that the catalogue does not know: the intent says what was
    to stand there, and the file's hash whether it does. Whoever ended while files were being removed left some of them,
    whose records come back: they are removed by the next plan. Raises `HaltedForSafety`; the intents stay then.
    """
    files = [file for intent in intents for file in intent.files]
    stand = await anyio.to_thread.run_sync(standing, root, [(file.target, file.sha256) for file in files])
    known = catalogue.knowledge.has_experiment
    recorded = [
        file
        for file, stands in zip(files, stand, strict=True)
        if stands and (file.experiment is None or known(file.experiment))
    ]
    await catalogue.save_files(recorded, intents)
    return recorded
