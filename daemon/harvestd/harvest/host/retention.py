"""Removes local checkpoints that a newer one supersedes, consistently with the catalogue: give up, remove, settle.

If a process ends in between, the files that still exist are on record again after the next start, and are removed then.
A file that the operator changed is kept, and logged; from then on it is the operator's.
"""

import anyio
import anyio.to_thread

from harvestd import failpoints
from harvestd.convention.paths import LocalPath
from harvestd.harvest.context import Context
from harvestd.harvest.transfer.refusals import Refusals
from harvestd.inventory.host import Host
from harvestd.planning.plan import Removal
from harvestd.store.ops.links import make_link, pointed
from harvestd.store.ops.remove import all_stand, remove
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_LATEST = "step_latest"


class CheckpointPruner:
    """Removes the superseded checkpoints of one host's plans."""

    def __init__(self, host: Host, context: Context, root: DataRoot, refused: Refusals) -> None:
        """`refused` receives what can't be removed, for the planner."""
        self._host = host
        self._context = context
        self._root = root
        self._refused = refused

    async def remove(self, removal: Removal) -> None:
        """Remove a checkpoint. Raise `DiskFull` and `HaltedForSafety`. The caller holds the directory lock."""
        experiment = removal.files[0].experiment
        if self._context.catalogue.knowledge.placed(removal.directory, experiment) != removal.directory:
            return  # it was renamed since the plan; the next plan handles it
        kept = [(file.target, file.size) for file in removal.kept]
        if not await anyio.to_thread.run_sync(all_stand, self._root, kept):
            why = f"{removal.newer}, which is newer, is not here as it was filed"
            for file in removal.files:
                self._refused.note(file.place, file.target, file.version, why, [each for each, _ in kept])
            self._tell_left(removal.directory, why)
            return
        # Shielded: only the end of the process may come between giving up and settling.
        with anyio.CancelScope(shield=True):
            await self._turn_link(removal)
            intent = await self._context.catalogue.give_up(removal.files)
            failpoints.reach("remove.given_up")
            files = [(file.target, file.sha256) for file in removal.files]
            left = await anyio.to_thread.run_sync(remove, self._root, removal.directory, files)
            await self._context.catalogue.save_files([], [intent])
        self._context.changes.touch([experiment])
        for path, why in left.items():
            self._tell_left(path, why)
        get_logger().info(
            Event.CHECKPOINT_REMOVED,
            host=self._host.name,
            path=removal.directory,
            bytes=sum(file.size for file in removal.files if file.target not in left),
            newer=removal.newer,
        )

    async def _turn_link(self, removal: Removal) -> None:
        """Point `step_latest` to the newer checkpoint if it leads to the removed one.

        The disk decides: the record may be behind it.
        """
        path = LocalPath((*removal.directory.parts[:-1], _LATEST))
        if await anyio.to_thread.run_sync(pointed, self._root, path) == removal.directory.name:
            await anyio.to_thread.run_sync(make_link, self._root, path, removal.newer)
            failpoints.reach("link.made")
            await self._context.catalogue.save_link(path, removal.newer)

    def _tell_left(self, path: LocalPath, why: str) -> None:
        get_logger().warning(
            Event.FILE_CONFLICT, host=self._host.name, path=path, error=f"superseded by a newer one, and left: {why}"
        )
