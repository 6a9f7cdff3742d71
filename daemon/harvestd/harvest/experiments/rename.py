"""Renames an experiment's directory on disk, in the catalogue and in its manifest, safely across crashes.

The rename is recorded first, so that the next start completes an interrupted one. Nothing is copied or fetched again;
an existing directory is never replaced.
"""

from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from msgspec.structs import replace

from harvestd import failpoints
from harvestd.convention.metadata.naming import ExperimentName
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.harvest.context import Context
from harvestd.planning.records import ExperimentRecord
from harvestd.store.ops.move import move
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
    async with context.places.moving():
        with anyio.CancelScope(shield=True):
            before = context.catalogue.knowledge.experiment(experiment.id)
            done = await _renamed(context.catalogue, root, before, name)
    after = context.catalogue.knowledge.experiment(experiment.id)
    context.changes.touch([after.id])
    _tell(context, before, after, name, done=done)
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
    stands = [await anyio.to_thread.run_sync(root.stat, path) is not None for path in (old, new)]
    return not files and not any(stands)


def _tell(
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
