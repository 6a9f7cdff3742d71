"""Opening the house: data root, lock, catalogue; and leaving it in order, manifests level with the catalogue."""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

import anyio
import anyio.to_thread

from harvestd.catalogue.catalogue import Catalogue
from harvestd.catalogue.opening import open_catalogue
from harvestd.harvest.house import House
from harvestd.harvest.manifests import Manifests
from harvestd.harvest.monitor import Monitor
from harvestd.harvest.recovery import recover
from harvestd.settings import Settings
from harvestd.store.lock import DataRootLock
from harvestd.store.root import DataRoot

_LAST_WORDS = 4.0
"""Seconds for writing manifests at the end: who asks a process to stop expects it gone after five."""


@asynccontextmanager
async def opened_house(settings: Settings, monitor: Monitor) -> AsyncIterator[tuple[House, DataRoot]]:
    """Make the house ready for work; what the last process left half done is settled first.

    Raises `Fatal` for what an operator must settle (7: another daemon holds the data root), `HaltedForSafety` where
    the disk or the catalogue fails. Errors of the body may come out in a group.
    """
    with ExitStack() as stack:
        root, catalogue = await anyio.to_thread.run_sync(_open, settings, stack)
        await recover(catalogue, root)
        house = House.of(settings, catalogue, monitor)
        manifests = Manifests(house, root)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(manifests.run)
                yield house, root
                tasks.cancel_scope.cancel()
        finally:
            with anyio.move_on_after(_LAST_WORDS, shield=True):
                await manifests.flush()


def _open(settings: Settings, stack: ExitStack) -> tuple[DataRoot, Catalogue]:
    root = stack.enter_context(DataRoot.open(settings.data_root))
    stack.enter_context(DataRootLock.take(root))
    catalogue = open_catalogue(settings.state, root.id)
    stack.callback(catalogue.close)
    return root, catalogue
