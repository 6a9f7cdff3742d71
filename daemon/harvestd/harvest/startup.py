"""Opens the context with its data root, lock and catalogue, and writes outstanding manifests at the end.

Importing the catalogue and the code that works with it takes 0.2 s. A thread does that while the hosts are being
connected, which waits for the network anyway; `Context.catalogue_opened` is set when it is done.
"""

from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from harvestd.cycles import uncollected
from harvestd.harvest.budgets import Descriptors, raise_limit
from harvestd.harvest.context import Context
from harvestd.harvest.experiments.directories import ExperimentDirectories
from harvestd.harvest.experiments.manifests import Manifests
from harvestd.harvest.experiments.names import apply_name_request
from harvestd.harvest.experiments.rename import finish_renames
from harvestd.harvest.metrics import NullListener, ProgressListener
from harvestd.harvest.recovery import adopt_orphans, rebuild, recover
from harvestd.remote.probe import protocol
from harvestd.settings import Settings
from harvestd.store.lock import DataRootLock, Held, HolderKind
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    from harvestd.catalogue.repository import Catalogue

_WORK = ("harvestd.harvest.host.executor", "harvestd.convention.metadata.yaml", "harvestd.harvest.experiments.reports")
_LAST_MESSAGES = 4.0
"""Seconds for writing manifests at the end: a process must end within five seconds of SIGTERM."""


_LOCK_AGAIN = 0.5
"""Seconds between two attempts to take a lock that a command holds."""


@asynccontextmanager
async def open_context(
    settings: Settings, monitor: ProgressListener, *, kind: HolderKind = HolderKind.COMMAND, wait: float = 0.0
) -> AsyncIterator[tuple[Context, DataRoot]]:
    """Open the context; the unfinished work of the last process is settled before anything is published.

    `kind` is what other processes read about this one. `wait`: seconds to wait while a command holds the data root.
    Raise `Fatal` for what an operator must solve (exit code 7: another daemon holds the data root), `HaltedForSafety`
    if the disk or the catalogue fails. Errors, of the body too, may come in a group.
    """
    with ExitStack() as stack:
        root = await anyio.to_thread.run_sync(_open_root, settings, stack)
        lock = await _locked(root, stack, kind, wait)
        context = Context.of(settings, monitor)
        context.budgets.descriptors = Descriptors(raise_limit())
        context.directories = ExperimentDirectories(context, root)
        manifests = Manifests(context, root)

        async def learn() -> None:
            catalogue = await anyio.to_thread.run_sync(_open_catalogue, settings, root.id, stack)
            if catalogue.restoring.is_pending:
                await rebuild(catalogue, root)
            adopted = await adopt_orphans(catalogue, root)
            renamed = await finish_renames(catalogue, root)
            recorded = await recover(catalogue, root)
            context.catalogue = catalogue
            await context.check_directories()
            context.requests.names = partial(apply_name_request, context, root)
            await context.requests.set_catalogue(catalogue)
            await context.open_catalogue(catalogue)
            context.changes.touch([*adopted, *renamed, *(record.experiment for record in recorded)])
            if not lock.found_in_order:
                # The last process ended without recording which manifests were behind.
                context.changes.touch([None, *(each.id for each in catalogue.knowledge.experiments())])
            await context.service_failures.keep_running("manifests", manifests.run)

        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(learn)
                yield context, root
                tasks.cancel_scope.cancel()
        finally:
            if context.catalogue_opened.is_set():
                with anyio.move_on_after(_LAST_MESSAGES, shield=True):
                    await manifests.flush()
                    if manifests.are_level:
                        await anyio.to_thread.run_sync(lock.leave_in_order)


@asynccontextmanager
async def open_read_only_context(settings: Settings) -> AsyncIterator[Context]:
    """Open a context with a copy of the catalogue in memory, for reading only; works beside a running daemon.

    Raise as `open_context`, but without a data root or a lock.
    """
    with ExitStack() as stack:
        context = Context.of(settings, NullListener())

        async def learn() -> None:
            await context.open_catalogue(await anyio.to_thread.run_sync(_open_scratch, settings, stack))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(learn)
            yield context
            tasks.cancel_scope.cancel()


def _open_root(settings: Settings, stack: ExitStack) -> DataRoot:
    return stack.enter_context(DataRoot.open(settings.data_root))


async def _locked(root: DataRoot, stack: ExitStack, kind: HolderKind, wait: float) -> DataRootLock:
    """Take the lock; wait up to `wait` seconds while a command holds it. Raise `Held`."""

    def take() -> DataRootLock:
        # Entered here: a cancellation meanwhile would lose what the thread returns.
        return stack.enter_context(DataRootLock.take(root, kind))

    end = anyio.current_time() + wait
    told, seen_daemon = 0, False
    while True:
        try:
            return await anyio.to_thread.run_sync(take)
        except Held as held:
            holder = held.holder
            # When a command takes over from a dead daemon, the daemon's entry is visible for another moment.
            is_daemon = holder.kind is HolderKind.DAEMON
            if anyio.current_time() >= end or (seen_daemon and is_daemon):
                raise
            seen_daemon = is_daemon
            if holder.pid and not is_daemon and holder.pid != told:
                told = holder.pid
                get_logger().warning(Event.SERVICE_WAITING, pid=holder.pid, data_root=root.path)
        await anyio.sleep(_LOCK_AGAIN)


def _open_catalogue(settings: Settings, data_root_id: str, stack: ExitStack) -> "Catalogue":
    with uncollected():
        from harvestd.catalogue.open import open_catalogue  # noqa: PLC0415  (see above)

        catalogue = _closing(stack, open_catalogue(settings.state, data_root_id))
        import_work()
    return catalogue


def _open_scratch(settings: Settings, stack: ExitStack) -> "Catalogue":
    with uncollected():
        from harvestd.catalogue.open import open_scratch  # noqa: PLC0415  (see above)

        catalogue = _closing(stack, open_scratch(settings.state))
        import_work()
    return catalogue


def import_work() -> None:
    """Import in this thread what is needed once a host is connected, so that the event loop does not wait for it."""
    protocol.command()  # packs the probe program
    for module in _WORK:
        import_module(module)


def _closing(stack: ExitStack, catalogue: "Catalogue") -> "Catalogue":
    stack.callback(catalogue.close)
    return catalogue
