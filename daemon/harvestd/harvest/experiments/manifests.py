"""Keeps each experiment's manifest.json at most half a minute behind the catalogue, and up to date at the end."""

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache, partial

import anyio
import anyio.to_thread

from harvestd.convention.kinds import GROWING
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import LeftOut as NotFetched
from harvestd.errors import DiskFull, Fatal, Retry
from harvestd.harvest.change_feed import Debouncer
from harvestd.harvest.context import Context
from harvestd.planning.records import UNFILED, ExperimentRecord, FileRecord, RunRecord
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.manifest import (
    Experiment,
    FiledFile,
    FileState,
    LeftOut,
    MadeLink,
    Manifest,
    NamePart,
    Run,
    manifest_owner,
    write_manifest,
)
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

EVERY = 30.0
"""The least seconds between two writes of one manifest."""
LOOK = 1.0
_QUIET = 0.5
"""Seconds without a change: while files arrive, a manifest that is about to change again is not written needlessly."""


class Manifests:
    """Writes the manifests of experiments that changed."""

    def __init__(self, context: Context, root: DataRoot) -> None:
        self._context = context
        self._root = root
        self._last_version = context.signals.idle.version
        self._behind: Debouncer[str | None] = Debouncer(_QUIET, EVERY)
        """The manifests to write; None means `_unfiled`."""
        self._held: set[str | None] = set()
        """Experiments whose manifest names files: it is written once more when none of them is left."""

    async def run(self) -> None:
        """Write due manifests until cancelled; the caller flushes at the end."""
        while True:
            if await self._wait_until_due():
                await self.flush()
                continue
            now = time.monotonic()
            self._behind.note(self._context.changes.manifests, now)
            for identifier in self._behind.due(now):
                await self._write(identifier)

    async def _wait_until_due(self) -> bool:
        """Wait until the next check is due; return whether all manifests are due.

        They are due when everything that a host showed is here.
        """
        with anyio.move_on_after(LOOK):
            self._last_version = await self._context.signals.idle.wait(self._last_version)
            return True
        return False

    async def flush(self) -> None:
        """Write all manifests that are behind, as far as there is room."""
        self._behind.note(self._context.changes.manifests, time.monotonic())
        for identifier in self._behind.waiting():
            await self._write(identifier)

    @property
    def are_level(self) -> bool:
        """Whether no manifest is behind the catalogue."""
        return not self._behind and not self._context.changes.manifests

    async def _write(self, identifier: str | None) -> None:
        """Write one manifest; after an unexpected failure it is tried again, and does not delay others."""
        with self._context.service_failures.containing("manifests", experiment=identifier):
            try:
                async with self._context.directory_lock.still():
                    await self._write_there(identifier)
            except BaseException:
                # It is still behind: the task may be cancelled before the thread began, and the last flush writes it
                # then.
                self._context.changes.manifests.add(identifier)
                raise

    async def _write_there(self, identifier: str | None) -> None:
        knowledge = self._context.catalogue.knowledge
        self._behind.worked(identifier, time.monotonic())
        # Before the first await: what changes from here on makes it behind again.
        self._behind.begin(identifier)
        files = await self._context.catalogue.files.files_of(identifier)
        if not files and (identifier not in self._held or knowledge.is_gone(identifier)):
            return
        head = Experiment("", UNFILED) if identifier is None else _head(knowledge.experiment(identifier))
        manifest = partial(
            _manifest,
            head,
            files,
            runs=knowledge.runs_of(identifier) if identifier else [],
            links=knowledge.links_in(head.directory),
            left_out=self._context.catalogue.left_out.of(identifier) if identifier else [],
            aliases=knowledge.experiment(identifier).aliases if identifier else (),
        )
        try:
            await anyio.to_thread.run_sync(_write, self._root, LocalPath((head.directory,)), manifest)
            self._held.add(identifier)
        except (DiskFull, Retry):
            # The transfers report this; it is written when there is room, or a descriptor, again.
            self._context.changes.manifests.add(identifier)
        except (Conflict, Refused) as e:
            get_logger().warning(Event.FILE_CONFLICT, path=head.directory, error=f"its manifest can't be written: {e}")


def _write(root: DataRoot, directory: LocalPath, manifest: Callable[[], Manifest]) -> None:
    """Build and write a manifest in a worker thread, so that thousands of lines do not block the event loop.

    Raise `Conflict` if the manifest of another experiment, or of a newer harvestd, is there: neither is replaced.
    """
    made = manifest()
    try:
        owner = manifest_owner(root, directory)
    except Damaged:
        owner = None  # unreadable, so it is replaced
    except Fatal as error:
        raise Conflict(str(error), hint=error.hint) from error
    if owner is not None and owner != made.experiment.id:
        raise Conflict(
            f"the manifest of another experiment is there: {owner}", hint="move one of both directories away"
        )
    write_manifest(root, directory, made)


def _head(experiment: ExperimentRecord) -> Experiment:
    parts = {name: NamePart(part.value, part.source) for name, part in experiment.name.parts.items()}
    return Experiment(experiment.id, experiment.directory, parts)


def _manifest(
    experiment: Experiment,
    files: Sequence[FileRecord],
    *,
    runs: Sequence[RunRecord],
    links: Mapping[LocalPath, str],
    left_out: Sequence[tuple[str, NotFetched]],
    aliases: tuple[str, ...],
) -> Manifest:
    return Manifest(
        experiment=experiment,
        runs=tuple(Run(run.host, run.storage, run.place, run.name, run.id) for run in runs),
        files=tuple(_filed(file) for file in files),
        links=tuple(MadeLink("/".join(path.parts[1:]), target) for path, target in links.items()),
        aliases=aliases,
        left_out=tuple(
            LeftOut(host, each.place, each.reason, each.size, each.entries, each.gone_at) for host, each in left_out
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
        fetched_at=_moment(file.fetched_at),
        reason=file.reason,
        marker=file.marker,
    )


@lru_cache(maxsize=256)
def _moment(time: float) -> datetime:
    return datetime.fromtimestamp(time, UTC)
