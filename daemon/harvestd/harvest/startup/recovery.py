"""Settles the unfinished work of the last process before new work begins: intents and temporaries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio.to_thread

from harvestd import failpoints
from harvestd.catalogue.entries import Intent
from harvestd.convention.paths import LocalPath
from harvestd.planning.records import FileRecord
from harvestd.store.root import DataRoot
from harvestd.store.verify.expected import standing

if TYPE_CHECKING:
    from harvestd.catalogue.repository import Catalogue


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
    stand = await anyio.to_thread.run_sync(standing, root, proofs)
    still = await anyio.to_thread.run_sync(_still_there, root, [old for _, old in files if old is not None])
    here = [(file, old) for (file, old), stands in zip(files, stand, strict=True) if stands and old not in still]
    recorded = [file for file, _ in here]
    before = [(file, await catalogue.files.holder(old)) for file, old in here if old is not None]
    gone = [record for file, record in before if record is not None and record.place == file.place]
    await catalogue.save_files(recorded, intents, gone)
    return recorded


def _still_there(root: DataRoot, paths: Sequence[LocalPath]) -> set[LocalPath]:
    return {path for path in paths if root.stat(path) is not None}
