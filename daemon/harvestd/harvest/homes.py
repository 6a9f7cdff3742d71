"""Where experiments' directories are by now: a person may rename one, or take it away, while we work.

A directory that has another name is known by the id in its manifest, and followed. One that is nowhere was taken away
on purpose: its records are dropped, and nothing is fetched behind a person's back. It counts again when it is back, or
when a person makes an empty directory of its name.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from msgspec.structs import replace

from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.records import ExperimentRecord
from harvestd.errors import Fatal
from harvestd.store.failures import Conflict, Damaged, Refused
from harvestd.store.manifest_file import read_manifest
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

if TYPE_CHECKING:
    from harvestd.harvest.house import House


class Homes:
    """Notices what becomes of the directories in the data root."""

    def __init__(self, house: "House", root: DataRoot) -> None:
        self._house = house
        self._root = root
        self._seen: tuple[int, int] | None = None
        """The data root's own times when it was looked at last: they change with each name in it."""

    async def look(self) -> None:
        """Bring what is known of directories up to what stands there. Raises `HaltedForSafety`."""
        now = await anyio.to_thread.run_sync(self._times)
        if now == self._seen:
            return
        async with self._house.places.moving():
            knowledge = self._house.catalogue.knowledge
            standing = set(await anyio.to_thread.run_sync(self._root.listing, None))
            experiments = knowledge.experiments()
            absent = [each for each in experiments if not each.gone and self._is_absent(each, standing)]
            back = [each for each in experiments if each.gone]
            if absent or back:
                known = {each.directory for each in experiments if not each.gone}
                found = await anyio.to_thread.run_sync(self._by_id, standing - known)
                for each in (*absent, *back):
                    by_name = each.directory if each.directory in standing else None
                    await self._follow(each, found.get(each.id, by_name))
        self._seen = now

    def _times(self) -> tuple[int, int]:
        return self._root.times()

    def _is_absent(self, experiment: ExperimentRecord, standing: set[str]) -> bool:
        return experiment.directory not in standing and bool(self._house.catalogue.knowledge.files_of(experiment.id))

    def _by_id(self, names: Iterable[str]) -> dict[str, str]:
        """Give the directories that hold a manifest, by its experiment's id; of copies the first."""
        found: dict[str, str] = {}
        for name in sorted(names):
            try:
                manifest = read_manifest(self._root, LocalPath((name,)))
            except (Damaged, Refused, Fatal, RejectedPath, Conflict):
                continue  # a person's own, or one that says nothing: no home of ours
            if manifest is not None:
                found.setdefault(manifest.experiment.id, name)
        return found

    async def _is_nowhere(self, experiment: ExperimentRecord) -> bool:
        """Ask for the directory itself: a listing may be behind what stands there."""
        return await anyio.to_thread.run_sync(self._root.stat, LocalPath((experiment.directory,))) is None

    async def _follow(self, experiment: ExperimentRecord, directory: str | None) -> None:
        catalogue = self._house.catalogue
        if directory is not None:
            aliases = [each for each in experiment.aliases if each != directory]
            if directory != experiment.directory:
                aliases.append(experiment.directory)
            moved_to = None if directory == experiment.name.directory else directory
            after = replace(experiment, moved_to=moved_to, aliases=tuple(aliases), gone=False)
            await catalogue.move_experiment(after)
            self._house.touch([after.id])
            log = get_logger().bind(experiment=after.directory, path=after.directory, old=experiment.directory)
            log.info(Event.EXPERIMENT_RENAMED, sources={"directory": "a person moved it"})
        elif not experiment.gone and await self._is_nowhere(experiment):
            await catalogue.forget_files(catalogue.knowledge.files_of(experiment.id))
            await catalogue.forget_links(list(catalogue.knowledge.links_in(experiment.directory)))
            await catalogue.save_experiment(replace(experiment, gone=True))
            get_logger().warning(
                Event.EXPERIMENT_GONE,
                experiment=experiment.directory,
                path=experiment.directory,
                hint="nothing of it is fetched; put it back, or make an empty directory of its name to have it again",
            )
