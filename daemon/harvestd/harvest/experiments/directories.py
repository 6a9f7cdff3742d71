"""Tracks the directories of experiments, which the operator may rename or remove while the daemon works.

A renamed directory is recognised by the id in its manifest, and tracked. A missing one was removed on purpose: its
records are dropped, and nothing of it is fetched. It counts again when it is back, or when the operator makes an empty
directory of its name.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from itertools import count
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from msgspec.structs import replace

from harvestd.catalogue.state_dir import InconsistentRows
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.errors import Fatal
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import ExperimentRecord
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.manifest import manifest_owner
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

if TYPE_CHECKING:
    from harvestd.harvest.context import Context

_OF_A_NEWER_ONE = "a manifest of a newer harvestd"
"""Used in place of an experiment's id."""
_LONGEST = 100
"""The most characters of a name that a number is appended to."""


class ExperimentDirectories:
    """Detects changes of the directories in the data root."""

    def __init__(self, context: "Context", root: DataRoot) -> None:
        self._context = context
        self._root = root
        self._seen: tuple[int, int] | None = None
        """The times of the data root at the last check: they change with each name in it."""
        self._inodes: dict[str, int] = {}
        """The inode of each name in it at that check: they show that two directories exchanged names."""

    async def refresh(self) -> None:
        """Update the records of directories to what exists. Raise `HaltedForSafety`."""
        now = await anyio.to_thread.run_sync(self._times)
        if now == self._seen:
            return
        async with self._context.directory_lock.moving():
            now = await anyio.to_thread.run_sync(self._times)
            if now == self._seen:
                return  # another host's scan came first
            listing = await anyio.to_thread.run_sync(self._root.listing, None)
            present = set(listing)
            inodes = {name: answer.st_ino for name, answer in listing.items()}
            replaced = {name for name in present if self._inodes.get(name, inodes[name]) != inodes[name]}
            filled = await self._context.catalogue.files.experiments_with_files()
            here = [each for each in self._knowledge.experiments() if not each.gone and each.id in filled]
            gone = [each for each in self._knowledge.experiments() if each.gone]
            absent = any(each.directory not in present for each in here)
            if absent or gone or replaced or self._seen is None:
                # If a directory is absent, it may have the name of another one that was moved as well.
                to_read = present if absent else present - {each.directory for each in here} | replaced
                owners = await anyio.to_thread.run_sync(self._owners, to_read)
                self._reserve(owners)
                await self._follow_all(here, gone, present, owners)
            self._inodes = inodes
        self._seen = now

    def _times(self) -> tuple[int, int]:
        return self._root.times()

    @property
    def _knowledge(self) -> PlanningIndex:
        return self._context.catalogue.knowledge

    def _owners(self, names: Iterable[str]) -> dict[str, str | None]:
        """Return the ids of the experiments whose manifests are in these directories; None for no manifest."""
        found: dict[str, str | None] = {}
        for name in sorted(names):
            try:
                found[name] = manifest_owner(self._root, LocalPath((name,)))
            except Fatal:
                found[name] = _OF_A_NEWER_ONE
            except (Damaged, Refused, RejectedPath, Conflict):
                continue  # the operator's own, or without a readable manifest: not an experiment of ours
        return found

    def _reserve(self, owners: Mapping[str, str | None]) -> None:
        """Keep new experiments out of directories with the manifest of an experiment that is not on record."""
        for name, owner in owners.items():
            if owner is not None and not self._knowledge.has_experiment(owner):
                self._knowledge.reserve(name)

    async def _follow_all(
        self,
        here: Sequence[ExperimentRecord],
        gone: Sequence[ExperimentRecord],
        present: AbstractSet[str],
        owners: Mapping[str, str | None],
    ) -> None:
        by_id: dict[str, str] = {}
        for name, owner in owners.items():
            if owner is not None:
                by_id.setdefault(owner, name)  # of several copies, the first one
        away = [each for each in here if not self._is_in_place(each, present, owners)]
        for each in away:
            if each.id not in by_id:
                with _contained(each):
                    await self._take_away(each, present)
        for each in (*away, *gone):
            if each.id in by_id:
                with _contained(each):
                    await self._follow(each, by_id[each.id], present)
        for each in gone:
            # An empty directory of its name means that the operator wants it again.
            is_bare = each.directory in owners and owners[each.directory] is None
            if each.id not in by_id and is_bare and self._holder_of(each.directory) is None:
                with _contained(each):
                    await self._follow(each, each.directory, present)

    def _is_in_place(
        self, experiment: ExperimentRecord, present: AbstractSet[str], owners: Mapping[str, str | None]
    ) -> bool:
        """Return whether an experiment's directory exists, without the manifest of another known experiment."""
        owner = owners.get(experiment.directory)
        is_foreign = owner is not None and owner != experiment.id and self._knowledge.has_experiment(owner)
        return experiment.directory in present and not is_foreign

    def _holder_of(self, directory: str) -> ExperimentRecord | None:
        """Return the experiment that has a directory of this name and is not gone."""
        experiments = self._knowledge.experiments()
        return next((each for each in experiments if not each.gone and each.directory == directory), None)

    async def _take_away(self, experiment: ExperimentRecord, present: AbstractSet[str]) -> None:
        """Record that an experiment's directory does not exist."""
        place = LocalPath((experiment.directory,))
        if experiment.directory not in present and await anyio.to_thread.run_sync(self._root.stat, place) is not None:
            return  # the listing is out of date
        await self._context.catalogue.record_gone(self._of_newest_version(experiment))
        get_logger().warning(
            Event.EXPERIMENT_GONE,
            experiment=experiment.directory,
            path=experiment.directory,
            hint="nothing of it is fetched; put it back, or make an empty directory of its name to have it again",
        )

    async def _follow(self, experiment: ExperimentRecord, directory: str, present: AbstractSet[str]) -> None:
        """Record the present directory of an experiment, or its absence if its files can't be below that name."""
        aliases = [each for each in experiment.aliases if each != directory]
        if directory != experiment.directory:
            aliases.append(experiment.directory)
        moved_to = None if directory == experiment.name.directory else directory
        newest = self._of_newest_version(experiment)
        after = replace(newest, moved_to=moved_to, aliases=tuple(aliases), gone=False)
        try:
            await self._make_room(after)
            await self._context.catalogue.move_experiment(after)
        except RejectedPath as error:
            get_logger().warning(
                Event.FILE_CONFLICT,
                experiment=experiment.directory,
                path=directory,
                error=f"what was filed in it can't be filed below this name: {error}",
                hint="give the directory another name",
            )
            if not experiment.gone:
                await self._take_away(experiment, present)
            return
        self._context.changes.touch([after.id])
        log = get_logger().bind(experiment=after.directory, path=after.directory, old=experiment.directory)
        log.info(Event.EXPERIMENT_RENAMED, sources={"directory": "a person moved it"})

    def _of_newest_version(self, experiment: ExperimentRecord) -> ExperimentRecord:
        """Return a record as it was before `_make_room` changed its name, to be written over that change."""
        return replace(experiment, row_version=self._knowledge.experiment(experiment.id).row_version)

    async def _make_room(self, after: ExperimentRecord) -> None:
        """Record another name for the experiment that has this directory on record, since it is not its own any more.

        Nothing of that experiment is here, or it is about to be tracked to its present directory.
        """
        holder = self._holder_of(after.directory)
        if holder is None or holder.id == after.id:
            return
        names = (f"{holder.directory[:_LONGEST]}_{number}" for number in count(2))
        free = next(name for name in names if not self._knowledge.is_directory_taken(name))
        await self._context.catalogue.move_experiment(replace(holder, moved_to=free))


@contextmanager
def _contained(experiment: ExperimentRecord) -> Iterator[None]:
    """Log an inconsistency that the catalogue refuses; other experiments, and each start, continue without this one."""
    try:
        yield
    except InconsistentRows as error:
        get_logger().error(
            Event.FILE_CONFLICT, experiment=experiment.directory, path=experiment.directory, error=str(error)
        )
