"""What the last process left half done, settled before work begins: intents and temporaries."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio.to_thread

from harvestd.catalogue.entries import Intent
from harvestd.store.root import DataRoot
from harvestd.store.standing import standing

if TYPE_CHECKING:
    from harvestd.catalogue.catalogue import Catalogue


async def recover(catalogue: "Catalogue", root: DataRoot) -> None:
    """Record what was published but not recorded; drop temporaries that nobody journalled, and journals without one."""
    await settle(catalogue, root, await catalogue.intents())
    journalled = {transfer.name for transfer in await catalogue.transfers()}
    await anyio.to_thread.run_sync(root.clean_staging, journalled)
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
