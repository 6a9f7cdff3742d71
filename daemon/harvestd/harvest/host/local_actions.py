"""The actions of a plan that transfer no bytes: making links, moving evals to their run, removing superseded files.

Removes local checkpoints that a newer one supersedes, consistently with the catalogue: give up, remove, settle. If a
process ends in between, the files that still exist are on record again after the next start, and are removed then. A
file that the operator changed is kept, and logged; from then on it is the operator's.
"""

from collections.abc import Sequence

import anyio
import anyio.to_thread
from msgspec.structs import replace

from harvestd import failpoints
from harvestd.convention.paths import LocalPath
from harvestd.harvest.context import Context
from harvestd.harvest.experiments.rename import Refiling, refile
from harvestd.harvest.transfer.publish import Refusals
from harvestd.inventory.host import Host
from harvestd.planning.plan import FileMove, Link, Plan, Removal, UpdateReason
from harvestd.planning.records import sections_of
from harvestd.store.move import make_link, pointed
from harvestd.store.publish import Result
from harvestd.store.remove import all_sizes_match, remove, remove_empty
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
        if not await anyio.to_thread.run_sync(all_sizes_match, self._root, kept):
            why = f"{removal.newer}, which is newer, is not here as it was filed"
            for file in removal.files:
                self._refused.note(file.place, file.target, file.version, why, [each for each, _ in kept])
            self._log_left(removal.directory, why)
            return
        # Shielded: only the end of the process may come between giving up and settling.
        with anyio.CancelScope(shield=True):
            await self._repoint_link(removal)
            intent = await self._context.catalogue.give_up(removal.files)
            failpoints.reach("remove.given_up")
            files = [(file.target, file.sha256) for file in removal.files]
            left = await anyio.to_thread.run_sync(remove, self._root, removal.directory, files)
            await self._context.catalogue.save_files([], [intent])
        self._context.changes.touch([experiment])
        for path, why in left.items():
            self._log_left(path, why)
        get_logger().info(
            Event.CHECKPOINT_REMOVED,
            host=self._host.name,
            path=removal.directory,
            bytes=sum(file.size for file in removal.files if file.target not in left),
            newer=removal.newer,
        )

    async def _repoint_link(self, removal: Removal) -> None:
        """Point `step_latest` to the newer checkpoint if it leads to the removed one.

        The disk decides: the record may be behind it.
        """
        path = LocalPath((*removal.directory.parts[:-1], _LATEST))
        if await anyio.to_thread.run_sync(pointed, self._root, path) == removal.directory.name:
            await anyio.to_thread.run_sync(make_link, self._root, path, removal.newer)
            failpoints.reach("link.made")
            await self._context.catalogue.save_link(path, removal.newer)

    def _log_left(self, path: LocalPath, why: str) -> None:
        get_logger().warning(
            Event.FILE_CONFLICT, host=self._host.name, path=path, error=f"superseded by a newer one, and left: {why}"
        )


_TOGETHER = 64
"""Files that are moved under one intent; no directory is renamed meanwhile."""


_EVAL_DEPTH = 3
"""Components of an eval's directory in an experiment: `gns_test_…/eval_results/run_…`."""


class LocalActions:
    """Performs the local actions of one host's plans."""

    def __init__(self, host: Host, context: Context, root: DataRoot, refused: Refusals) -> None:
        self._host = host
        self._context = context
        self._root = root
        self._refused = refused
        self._superseding = CheckpointPruner(host, context, root, refused)

    async def perform(self, plan: Plan) -> None:
        """Perform all local actions of a plan: links before their old targets are removed.

        Raise as the catalogue does.
        """
        for link in plan.links:
            async with self._context.directory_lock.still():
                await self._link(link)
        for start in range(0, len(plan.refiles), _TOGETHER):
            async with self._context.directory_lock.still():
                await self._refile(plan.refiles[start : start + _TOGETHER])
        for removal in plan.removals:
            async with self._context.directory_lock.still():
                await self._superseding.remove(removal)
        if plan.remarks:
            async with self._context.directory_lock.still():
                await self._remark(plan.remarks)

    async def _remark(self, remarks: Sequence[UpdateReason]) -> None:
        catalogue = self._context.catalogue
        async with catalogue.files.loaded(sections_of(each.record for each in remarks)):
            # Files that were fetched, moved or removed since the plan are skipped: they have their reason, or need
            # none.
            still = [each for each in remarks if catalogue.knowledge.holder(each.record.target) == each.record]
            await catalogue.save_files([replace(each.record, reason=each.reason) for each in still])
        self._context.changes.touch({each.record.experiment for each in still})

    async def _link(self, link: Link) -> None:
        experiments = self._context.catalogue.knowledge.experiments()
        whose = [each.id for each in experiments if each.directory == link.path.parts[0]]
        if not whose:
            return  # it was renamed since the plan; the next plan handles it
        result = await anyio.to_thread.run_sync(make_link, self._root, link.path, link.target)
        if result in {Result.CONFLICT, Result.REFUSED}:
            log = get_logger().bind(host=self._host.name)
            log.warning(Event.FILE_CONFLICT, path=link.path, error=f"the link to {link.target} can't be made: {result}")
        failpoints.reach("link.made")
        # Recorded in any case: a file that the operator put in the link's place is not replaced again and again.
        await self._context.catalogue.save_link(link.path, link.target)
        self._context.changes.touch(whose)

    async def _refile(self, refiles: Sequence[FileMove]) -> None:
        async with self._context.catalogue.files.loaded(sections_of(each.record for each in refiles)):
            await self._refile_loaded(refiles)

    async def _refile_loaded(self, refiles: Sequence[FileMove]) -> None:
        knowledge = self._context.catalogue.knowledge
        # If an experiment was renamed or a file was moved since the plan, the next plan handles it.
        files = [
            Refiling(each.record, replace(each.record, target=each.target.path, experiment=each.target.experiment))
            for each in refiles
            if knowledge.placed(each.target.path, each.target.experiment) == each.target.path
            and knowledge.holder(each.record.target) == each.record
        ]
        results = await refile(self._context.catalogue, self._root, files)
        await anyio.to_thread.run_sync(self._remove_empty, files)
        for file, result in zip(files, results, strict=True):
            self._log_refiled(file, result)

    def _remove_empty(self, files: Sequence[Refiling]) -> None:
        """Remove the directories that these files were in, if they are empty now."""
        for directory in {file.before.target.parts[:_EVAL_DEPTH] for file in files}:
            inside = [each.before.target for each in files if each.before.target.parts[:_EVAL_DEPTH] == directory]
            if all(len(path.parts) > _EVAL_DEPTH for path in inside):
                remove_empty(self._root, LocalPath(directory), inside)

    def _log_refiled(self, file: Refiling, result: Result) -> None:
        before, after = file.before, file.after
        if result in {Result.PUBLISHED, Result.ADOPTED}:
            self._context.changes.touch([before.experiment, after.experiment])
            get_logger().info(Event.FILE_FILED, host=self._host.name, path=after.target, old=before.target)
        else:
            detail = f"it is at {before.target} and can't be moved here: {result}"
            self._refused.note(before.place, after.target, before.version, detail, [before.target, after.target])
            get_logger().warning(Event.FILE_CONFLICT, host=self._host.name, path=after.target, error=detail)
