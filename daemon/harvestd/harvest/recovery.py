"""What the last process left half done, settled before work begins: intents and temporaries."""

import anyio.to_thread

from harvestd.catalogue.catalogue import Catalogue
from harvestd.convention.records import FileRecord
from harvestd.store.failures import Conflict, Refused
from harvestd.store.root import DataRoot


async def recover(catalogue: Catalogue, root: DataRoot) -> None:
    """Record what was published but not recorded; drop temporaries that nobody journalled, and journals without one.

    A process that died between a rename and its row left a file that the catalogue does not know: the intent says what
    was to stand there, and the file's hash whether it does.
    """
    intents = await catalogue.intents()
    done = await anyio.to_thread.run_sync(_published, root, intents)
    await catalogue.save_files(done, [intent.target for intent in intents if intent not in done])
    journalled = {transfer.name for transfer in await catalogue.transfers()}
    await anyio.to_thread.run_sync(root.clean_staging, journalled)
    lost = sorted(journalled - set(await anyio.to_thread.run_sync(root.staged_names)))
    if lost:
        await catalogue.drop_transfers(lost)


def _published(root: DataRoot, intents: list[FileRecord]) -> list[FileRecord]:
    return [intent for intent in intents if _stands(root, intent)]


def _stands(root: DataRoot, intent: FileRecord) -> bool:
    try:
        return root.sha256(intent.target) == intent.sha256
    except (FileNotFoundError, Conflict, Refused):
        return False
