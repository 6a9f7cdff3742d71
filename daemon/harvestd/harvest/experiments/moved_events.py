"""Records the new paths of TensorBoard files that were moved within their run on one host.

Their local files are then moved as well and continue to grow there; the next append first compares all of it with the
host's file.
"""

from collections.abc import Sequence

from harvestd.convention.scan.model import RunDir
from harvestd.harvest.context import Context
from harvestd.inventory.host import Host
from harvestd.planning.identity.renamed_runs import moved_events


class MovedEvents:
    """Recognises moved TensorBoard files of one connected host."""

    def __init__(self, host: Host, context: Context) -> None:
        self._context = context
        self._storage = context.storage_of(host)
        self._seen: Sequence[RunDir] = ()
        """The runs of the last call; a run in which nothing changed is the same object."""

    async def record(self, runs: Sequence[RunDir]) -> None:
        """Record the new paths of moved files; the caller holds `Context.learning`."""
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
