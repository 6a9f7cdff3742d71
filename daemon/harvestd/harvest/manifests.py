"""Keeping each experiment's manifest.json behind the catalogue by half a minute at the most, and level at the end."""

import time
from datetime import UTC, datetime

import anyio
import anyio.to_thread

from harvestd.convention.artifacts import GROWING
from harvestd.convention.paths import LocalPath
from harvestd.convention.records import ExperimentRecord, FileRecord
from harvestd.harvest.house import House
from harvestd.store.failures import Conflict, DiskFull, Refused
from harvestd.store.manifest import Experiment, FiledFile, FileState, LeftOut, MadeLink, Manifest, NamePart, Run
from harvestd.store.manifest_file import write_manifest
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

EVERY = 30.0
"""Seconds between two writings of one manifest, at least."""
_LOOK = 1.0


class Manifests:
    """Writes the manifests of experiments that changed."""

    def __init__(self, house: House, root: DataRoot) -> None:
        self._house = house
        self._root = root
        self._written: dict[str, float] = {}

    async def run(self) -> None:
        """Write what is due until cancelled; the caller flushes at the end."""
        while True:
            await anyio.sleep(_LOOK)
            now = time.monotonic()
            for identifier in sorted(self._house.dirty):
                if now - self._written.get(identifier, -EVERY) >= EVERY:
                    await self._write(identifier)

    async def flush(self) -> None:
        """Write all manifests that are behind, as far as there is room."""
        for identifier in sorted(self._house.dirty):
            await self._write(identifier)

    async def _write(self, identifier: str) -> None:
        self._written[identifier] = time.monotonic()
        self._house.dirty.discard(identifier)
        experiment = self._house.catalogue.knowledge.experiment(identifier)
        manifest = self._manifest(experiment)
        if not manifest.files:
            return
        try:
            await anyio.to_thread.run_sync(write_manifest, self._root, LocalPath((experiment.directory,)), manifest)
        except DiskFull:
            self._house.dirty.add(identifier)  # whoever fetches tells it; here it is written when there is room
        except (Conflict, Refused) as e:
            get_logger().warning(
                Event.FILE_CONFLICT, path=experiment.directory, error=f"its manifest can't be written: {e}"
            )

    def _manifest(self, experiment: ExperimentRecord) -> Manifest:
        knowledge = self._house.catalogue.knowledge
        parts = {name: NamePart(part.value, part.source) for name, part in experiment.name.parts.items()}
        runs = [run for run in knowledge.runs() if run.experiment == experiment.id]
        return Manifest(
            experiment=Experiment(experiment.id, experiment.directory, parts),
            runs=tuple(sorted(Run(run.host, run.storage, run.place, run.name) for run in runs)),
            files=tuple(_filed(file) for file in sorted(knowledge.files_of(experiment.id), key=lambda f: f.target)),
            links=tuple(
                MadeLink("/".join(path.parts[1:]), target)
                for path, target in knowledge.links_in(experiment.directory).items()
            ),
            left_out=tuple(
                LeftOut(host, each.place, each.reason, each.size, each.entries)
                for host, each in self._house.catalogue.left_out_of(experiment.id)
            ),
        )


def _filed(file: FileRecord) -> FiledFile:
    return FiledFile(
        path="/".join(file.target.parts[1:]),
        kind=str(file.kind),
        size=file.size,
        sha256=file.sha256,
        state=FileState.GROWING if file.kind in GROWING else FileState.SEALED,
        host=file.host,
        storage=file.storage,
        remote_path=file.place,
        mtime_ns=file.version.mtime_ns,
        fetched_at=datetime.fromtimestamp(file.fetched_at, UTC),
        reason=file.reason,
    )
