"""What indexing finds in a directory, and small files that are read before they are planned.

Prefetches the small files that describe runs while the scan that shows them is still arriving. A run's local paths
depend on its config.yaml, so a first scan is followed by reading those files, and only then by fetching. Read as soon
as the first piece of the scan shows them, they cost no extra round trip. `RunIndexer` uses an entry only if its version
matches the completed scan; nothing else depends on what was read early.
"""

from collections.abc import Awaitable, Callable, Hashable, Iterable, Sequence
from contextlib import suppress

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream
from msgspec.structs import replace

from harvestd.convention.kinds import Finetuned
from harvestd.convention.metadata.models import model_id
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.scan.model import EvalDir, RunDir, ScanResult, Source, place_of
from harvestd.convention.scan.snapshot import Entry, EntryType, Snapshot, Tree, TreeKind
from harvestd.convention.scan.training import described_run
from harvestd.convention.structs import Immutable
from harvestd.errors import unwrapped
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.transfer.reading import read_small
from harvestd.inventory.host import Host
from harvestd.planning.identity import NO_LOG, Fingerprint, Undecidable
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import RunRecord
from harvestd.remote.api import OnPartialScan, Reader

_SPARE = 64
"""Vanished directories that are kept before they are dropped, beside as many as exist."""


class _Indexed(Immutable):
    directory: RunDir | EvalDir
    subjects: tuple[Hashable, ...]
    """What the index of the directory depends on besides it; see `PlanningIndex.changed_at`."""
    version: int


class IndexedDirectories:
    """The directories that are on record; an unchanged directory of a later scan is the same object."""

    def __init__(self, knowledge: PlanningIndex) -> None:
        self._knowledge = knowledge
        self._known: dict[int, _Indexed] = {}
        """By the object's id."""

    def has(self, directory: RunDir | EvalDir) -> bool:
        """Return whether a directory is on record, and neither it nor its subjects changed since."""
        known = self._known.get(id(directory))
        if known is None or known.directory is not directory:
            return False
        return self._knowledge.changed_at(known.subjects) <= known.version

    def add(self, directory: RunDir | EvalDir, subjects: Sequence[Hashable]) -> None:
        """Note that all of a directory is on record."""
        self._known[id(directory)] = _Indexed(directory, tuple(subjects), self._knowledge.version)

    def trim(self, seen: ScanResult) -> None:
        """Drop vanished directories if there are many."""
        if len(self._known) > 2 * (len(seen.runs) + len(seen.evals)) + _SPARE:
            shown: Iterable[RunDir | EvalDir] = (*seen.runs, *seen.evals)
            self._known = {id(each): self._known[id(each)] for each in shown if id(each) in self._known}


class IndexedRun(Immutable):
    """What this scan shows of one run."""

    config: ConfigFacts | None
    """None if it was not read in this scan; the same for the other fields."""
    final: TrainingInfo | None
    base_model: str | None = None
    backbones: frozenset[str] = frozenset()
    """As spelled in the directory names of its evals."""
    config_hash: str | None = None
    head: str | None = None

    @property
    def names_model(self) -> bool:
        """Whether the files that were read name the run's model."""
        return names_model(self.config, self.final)


def undecided_because(seen: Fingerprint, found: Undecidable) -> str:
    """Return what is missing to tell a run from another one."""
    if seen.head == NO_LOG:
        return f"it has no log: the log alone tells whether it is a part of the run on {found.other.host}"
    return f"its log's first line will tell whether it is the run on {found.other.host}"


def names_model(config: ConfigFacts | None, final: TrainingInfo | None) -> bool:
    """Return whether a run's own files name its model; a path that ends in a hash or at another run does not."""
    references = (config.backbone if config else None, final.backbone if final else None)
    return any(reference and model_id(reference) for reference in references)


def updated_record(record: RunRecord, run: RunDir, indexed: IndexedRun, host: Host) -> RunRecord:
    """Return a run's record with what this scan shows of it, and its host's present name."""
    is_own = record.is_of(host.name, host.identity)
    after = replace(
        record,
        host=host.name if is_own else record.host,
        identity=host.identity if is_own else record.identity,
        base_model=indexed.base_model or record.base_model,
        writer=run.writer or record.writer,
        config_hash=indexed.config_hash or record.config_hash,
        head=record.head or indexed.head,
    )
    if indexed.config is not None and run.config is not None:
        after = replace(after, config=indexed.config, config_version=run.config.version)
    if indexed.final is not None and run.final_info is not None:
        after = replace(after, final=indexed.final, final_version=run.final_info.version)
    return after


def tuned(record: RunRecord, found: Iterable[Finetuned]) -> RunRecord:
    """Return a run's record with more backbones and fine-tuning datasets from the names of its evals."""
    return replace(record, tunings=record.tunings | set(found))


def is_succeeded(run: RunDir) -> bool:
    """Return whether the run wrote later files since, so that its config.yaml is certainly complete."""
    if run.config is None:
        return False
    written = max(run.config.version.mtime_ns, run.config.version.ctime_ns)
    return any(each.source.version.size > 0 and each.source.version.mtime_ns > written for each in run.growing)


def backbones_of(evals: Iterable[EvalDir]) -> dict[str, frozenset[str]]:
    """Return how the evals of each run spell its backbone, by run name."""
    found: dict[str, frozenset[str]] = {}
    for eval_dir in evals:
        if eval_dir.run is not None:
            here = frozenset(tuning.backbone for tuning in eval_dir.finetuned)
            found[eval_dir.run.name] = found.get(eval_dir.run.name, frozenset()) | here
    return found


_MOST = 256
"""Files: their contents are held until the scan is complete."""


class EarlyReads:
    """Reads the small files of unknown runs during a host's first scan."""

    def __init__(self, reader: Reader, knowledge: PlanningIndex, storage: str, failures: FailureTracker) -> None:
        self._reader = reader
        self._failures = failures
        self._knowledge = knowledge
        self._storage = storage
        self._left = _MOST
        self._contents: dict[Source, bytes] = {}

    async def beside(self, scan: Callable[[OnPartialScan], Awaitable[Snapshot]]) -> Snapshot:
        """Scan, and read meanwhile. Raise what either of them raises."""
        send, receive = anyio.create_memory_object_stream[list[Source]](_MOST)

        def on_partial(tree: Tree, entries: Sequence[Entry]) -> None:
            if tree.kind is TreeKind.TRAINING and (found := self._found(tree, entries)):
                # A closed receiver means that the reading failed; its own error gives the reason.
                with suppress(anyio.BrokenResourceError):
                    send.send_nowait(found)

        with unwrapped():
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._read, receive)
                with send:
                    snapshot = await scan(on_partial)
        return snapshot

    def taken(self) -> dict[Source, bytes]:
        """Return the contents that were read early, and release them."""
        contents, self._contents = self._contents, {}
        return contents

    def _found(self, tree: Tree, entries: Sequence[Entry]) -> list[Source]:
        found = [
            Source(tree, entry.path, entry.version)
            for entry in entries
            if entry.type is EntryType.FILE and self._is_news(tree, entry)
        ][: self._left]
        self._left -= len(found)
        return found

    def _is_news(self, tree: Tree, entry: Entry) -> bool:
        run = described_run(entry.path)
        return run is not None and self._knowledge.run_at(self._storage, place_of(tree, run)) is None

    async def _read(self, receive: MemoryObjectReceiveStream[list[Source]]) -> None:
        with receive:
            async for sources in receive:
                self._contents |= await read_small(self._reader, sources, self._failures)
