"""Rename the directory of an experiment or an eval, move its files, and log the change.

Renames an experiment's directory on disk, in the catalogue and in its manifest, safely across crashes. The rename is
recorded first, so that the next start completes an interrupted one. Nothing is copied or fetched again; an existing
directory is never replaced.

Moves files within the data root, consistently with the catalogue: intent, move, record. A process that ends in
between leaves each file at one of its two paths, and the intent names them.

Records the new paths of TensorBoard files that were moved within their run on one host. Their local files are then
moved as well and continue to grow there; the next append first compares all of it with the host's file.

Records the new paths of evals that were renamed on one host, once the host's hash proves it. Their local files are
then moved as well, so that an eval exists here once, under the name that it has on its host.
"""

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from msgspec.structs import replace

from harvestd import failpoints
from harvestd.convention.metadata.naming import ExperimentName
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.scan.model import EvalDir, RunDir, ScanResult
from harvestd.convention.scan.snapshot import Snapshot
from harvestd.convention.scan.stability import NETWORK_SETTLE
from harvestd.convention.structs import Immutable
from harvestd.errors import HarvestError
from harvestd.harvest.context import Context
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.recovery import settle
from harvestd.harvest.transfer.rehash import Hashed, hash_there
from harvestd.inventory.host import Host
from harvestd.planning.records import ExperimentRecord, FileRecord
from harvestd.planning.renamed import EvalsOnHost, RenamedEval, moved_evals, moved_events
from harvestd.remote.api import Reader
from harvestd.store.move import move
from harvestd.store.publish import Result
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    from harvestd.catalogue.repository import Catalogue


async def rename(context: Context, root: DataRoot, experiment: ExperimentRecord, name: ExperimentName) -> bool:
    """Set the name of an experiment and of its directory; return whether it succeeded. Raise `HaltedForSafety`.

    If the new path exists, or the file system refuses, return False and leave everything as it was.
    """
    async with context.directory_lock.moving():
        with anyio.CancelScope(shield=True):
            before = context.catalogue.knowledge.experiment(experiment.id)
            done = await _renamed(context.catalogue, root, before, name)
    after = context.catalogue.knowledge.experiment(experiment.id)
    context.changes.touch([after.id])
    _log_rename(context, before, after, name, done=done)
    return done


async def finish_renames(catalogue: "Catalogue", root: DataRoot) -> list[str]:
    """Complete the renames of the last process; return the affected experiments. Raise `HaltedForSafety`."""
    begun = await catalogue.intended_renames()
    for identifier, name in begun.items():
        experiment = catalogue.knowledge.experiment(identifier)
        if not await _renamed(catalogue, root, experiment, name):
            await catalogue.intend_rename(experiment, None)
    return list(begun)


async def _renamed(catalogue: "Catalogue", root: DataRoot, before: ExperimentRecord, name: ExperimentName) -> bool:
    after = _called(before, name)
    if after.directory == before.directory:
        await catalogue.save_experiment(after)
        return True
    files = await catalogue.files.files_of(before.id)
    try:
        for path in (file.target for file in files):
            LocalPath((after.directory, *path.parts[1:]))
        for path in catalogue.knowledge.links_in(before.directory):
            LocalPath((after.directory, *path.parts[1:]))
    except RejectedPath:
        return False
    if catalogue.knowledge.is_directory_taken(after.directory, by_other_than=before.id):
        return False  # another experiment got the name since it was chosen
    with catalogue.knowledge.reserved(after.directory):
        return await _moved_with_record(catalogue, root, before, after, has_files=bool(files))


async def _moved_with_record(
    catalogue: "Catalogue", root: DataRoot, before: ExperimentRecord, after: ExperimentRecord, *, has_files: bool
) -> bool:
    old, new = LocalPath((before.directory,)), LocalPath((after.directory,))
    await catalogue.intend_rename(before, after.name)
    failpoints.reach("experiment.intended")
    if not await _moved(root, old, new, files=has_files):
        await catalogue.intend_rename(before, None)
        return False
    failpoints.reach("experiment.moved")
    await catalogue.move_experiment(after)
    return True


def _called(before: ExperimentRecord, name: ExperimentName) -> ExperimentRecord:
    after = replace(before, name=name, moved_to=None)
    if after.directory == before.directory:
        return after
    aliases = [alias for alias in before.aliases if alias not in {before.directory, after.directory}]
    return replace(after, aliases=(*aliases, before.directory))


async def _moved(root: DataRoot, old: LocalPath, new: LocalPath, *, files: bool) -> bool:
    result = await anyio.to_thread.run_sync(move, root, old, new)
    if result in {Result.PUBLISHED, Result.ADOPTED}:
        return True
    # An experiment without published files has no directory to move.
    exist = [await anyio.to_thread.run_sync(root.stat, path) is not None for path in (old, new)]
    return not files and not any(exist)


def _log_rename(
    context: Context, before: ExperimentRecord, after: ExperimentRecord, name: ExperimentName, *, done: bool
) -> None:
    if not done:
        get_logger().warning(
            Event.FILE_CONFLICT,
            path=before.directory,
            error=f"it can't be renamed to {name.directory}: something stands there, or the file system says no",
        )
    elif after.directory != before.directory:
        runs = [run.name for run in context.catalogue.knowledge.runs_of(after.id)]
        get_logger().info(
            Event.EXPERIMENT_RENAMED,
            run_id=runs[0] if runs else None,
            experiment=after.directory,
            old=before.directory,
            path=after.directory,
            sources={part: found.source for part, found in name.parts.items()},
        )


_MOVED = frozenset({Result.PUBLISHED, Result.ADOPTED})


class Refiling(Immutable):
    """One file, with its present and its future record."""

    before: FileRecord
    after: FileRecord


async def refile(catalogue: "Catalogue", root: DataRoot, files: Sequence[Refiling]) -> list[Result]:
    """Move files to their new paths; return the results in the same order.

    The caller holds the directory lock. Files that are not moved keep their records. Raise `HaltedForSafety`,
    `DiskFull` and `Retry` if the disk fails; what was moved by then is on record.
    """
    if not files:
        return []
    with anyio.CancelScope(shield=True):
        intent = await catalogue.intend([each.after for each in files], [each.before.target for each in files])
        failpoints.reach("refile.intended")
        try:
            results = await anyio.to_thread.run_sync(_move_all, root, files)
        except HarvestError:
            await settle(catalogue, root, [intent])
            raise
        moved = [each for each, result in zip(files, results, strict=True) if result in _MOVED]
        await catalogue.save_files([each.after for each in moved], [intent], [each.before for each in moved])
    return results


def _move_all(root: DataRoot, files: Sequence[Refiling]) -> list[Result]:
    return [move(root, each.before.target, each.after.target) for each in files]


class MovedEvents:
    """Recognises moved TensorBoard files of one connected host."""

    def __init__(self, host: Host, context: Context) -> None:
        self._context = context
        self._storage = context.storage_of(host)
        self._seen: Sequence[RunDir] = ()
        """The runs of the last call; a run in which nothing changed is the same object."""

    async def record(self, runs: Sequence[RunDir]) -> None:
        """Record the new paths of moved files; the caller holds `Context.indexing`."""
        catalogue = self._context.catalogue
        known = set(map(id, self._seen))
        changed = [run for run in runs if id(run) not in known]
        self._seen = runs
        for run in changed:
            record = catalogue.knowledge.run_at(self._storage, run.place)
            files = moved_events(run, record, catalogue.knowledge) if record is not None else []
            if files:
                await catalogue.save_files(files)
                self._context.changes.touch({file.experiment for file in files})


class RenamedEvals:
    """Recognises renamed evals of one connected host."""

    def __init__(self, host: Host, context: Context, failures: FailureTracker, undecided: dict[str, str]) -> None:
        """`undecided` receives the reason why an eval waits, by its remote path."""
        self._host = host
        self._context = context
        self._failures = failures
        self._undecided = undecided
        self._storage = context.storage_of(host)
        self._evals = EvalsOnHost(self._storage, context.catalogue.knowledge)
        self._held: dict[RenamedEval, float] = {}
        """Proven renames that another host still shows under the old name: since when, in monotonic seconds."""

    async def prove(self, whole: tuple[ScanResult, Snapshot], reader: Reader, now: float) -> None:
        """Note the renames that the newest scan proves. Raise `Retry` when the link is lost."""
        shown, snapshot = whole
        candidates = {each.proof: each for each in self._evals.record_scan(shown.evals, snapshot)}

        async def conclude(hashed: Hashed) -> None:
            for item, opened in hashed:
                if opened.verified == item.record.sha256:
                    self._held[candidates[item]] = now

        if candidates:
            await hash_there(list(candidates), reader, self._failures, conclude)

    async def record(self, whole: tuple[ScanResult, Snapshot], now: float) -> None:
        """Record the new paths of the files of proven renames; the caller holds `Context.indexing`."""
        if not self._held:
            return
        shown, snapshot = whole
        others = self._shown_by_others()
        due: list[RenamedEval] = []
        for each, since in list(self._held.items()):
            self._undecided.pop(each.eval_dir, None)
            if each.proof.record.place in others and now - since < NETWORK_SETTLE:
                self._undecided[each.eval_dir] = f"another host still shows it as {each.before}"
            else:
                due.append(each)
                del self._held[each]
        if due:
            await self._move(due, shown.evals, snapshot)

    def _shown_by_others(self) -> Collection[str]:
        """Return the remote paths of eval files that other hosts show on this file system, by their newest scans."""
        return {
            member.source.place
            for last_scan in self._context.states.last_scans()
            if last_scan.host.identity != self._host.identity
            and self._context.storage_of(last_scan.host) == self._storage
            for eval_dir in last_scan.seen.evals
            for group in eval_dir.groups
            for member in group.members
        }

    async def _move(self, due: Sequence[RenamedEval], evals: Sequence[EvalDir], snapshot: Snapshot) -> None:
        catalogue = self._context.catalogue
        files = moved_evals(due, evals, snapshot, self._storage, catalogue.knowledge)
        await catalogue.save_files(files)
        self._context.changes.touch({file.experiment for file in files})
        for each in due:
            get_logger().info(Event.EVAL_RENAMED, host=self._host.name, path=each.after, old=each.before)
