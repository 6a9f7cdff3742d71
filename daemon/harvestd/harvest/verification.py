"""Verify the local files of a data root, and repair them on request.

Repairs what an audit found, without deleting any of the operator's files. A damaged file moves to
`.harvestd/versions/` and its record is removed: the next pass fetches it again if a host still has it. A missing one
is copied from where the operator moved it within an experiment, and fetched again only if it is nowhere. A catalogue
that can't be read is set aside and rebuilt from the manifests. The operator's own files stay.

Copies back missing files whose content exists elsewhere in an experiment, because the operator renamed a directory. A
renamed directory inside an experiment is not tracked, unlike the experiment's own directory: the remote path decides
where each file belongs. A missing file is copied back when a repair is requested, so that it is not downloaded again.
The operator's files stay as they are.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import anyio.to_thread
from sqlalchemy import Connection

from harvestd.catalogue import queries
from harvestd.catalogue.open import damage_of, move_aside
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.structs import Immutable
from harvestd.errors import unwrapped
from harvestd.harvest import audit
from harvestd.harvest.audit import Finding, FindingKind
from harvestd.harvest.context import Context
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.startup import open_context
from harvestd.planning.records import UNFILED, ExperimentRecord, FileRecord
from harvestd.settings import Settings
from harvestd.store.errors import Conflict, Refused
from harvestd.store.lock import DataRootLock, holder
from harvestd.store.publish import Publication, Result, publish
from harvestd.store.root import DataRoot
from harvestd.store.versions import set_aside

_TIMEOUT = 120.0
"""Seconds for a process to record what it published: a busy disk may take long to sync a batch."""
_PAUSE = 0.05


class Subject(Immutable):
    """What is to be verified."""

    files: Sequence[FileRecord]
    experiments: Sequence[ExperimentRecord]

    @property
    def size(self) -> int:
        """Bytes that are to be hashed."""
        return sum(file.size for file in self.files)


def everything(connection: Connection) -> Subject:
    """Return everything that is on record."""
    return Subject(queries.all_files(connection), tuple(queries.experiments(connection).values()))


def catalogue_findings(settings: Settings) -> list[Finding]:
    """Return what is wrong with the catalogue itself; if anything is, nothing else can be audited."""
    damage = damage_of(settings.state)
    return [Finding(FindingKind.CATALOGUE, str(settings.state), damage)] if damage else []


def findings(
    settings: Settings, connection: Connection, subject: Subject, checked: Callable[[FileRecord], None]
) -> Iterator[Finding]:
    """Yield what differs from its record; `checked` is called with each file that was read. Blocks.

    Transfers of a running daemon are not findings. Raise `Fatal` if there is no data root.
    """
    with DataRoot.open(settings.data_root, create=False) as root:
        records = _Records(connection, has_writer=holder(root) is not None)
        yield from audit.of_files(root, subject.files, records.now_of, checked)
        directories = {experiment.directory for experiment in subject.experiments} | {UNFILED}
        with queries.fresh(connection):
            known = {file.target for file in queries.all_files(connection)}
            links = queries.links(connection)
        yield from records.lasting(audit.of_strangers(root, directories, known, links))
        if not records.has_writer:
            with queries.fresh(connection):
                journalled, intended = queries.journalled(connection), queries.intended(connection)
            yield from audit.of_staging(root, journalled, intended)
            yield from audit.of_manifests(root, subject.experiments, subject.files)


class _Records:
    """Reads the present records, while another process may write them."""

    def __init__(self, connection: Connection, *, has_writer: bool) -> None:
        self._connection = connection
        self.has_writer = has_writer
        connection.rollback()  # earlier queries must not pin a snapshot while files are hashed

    def now_of(self, file: FileRecord) -> FileRecord | None:
        """Return a file's present record, whatever its path is now; None if there is none any more.

        Wait while the daemon is publishing the file: the disk is ahead of the record then.
        """
        deadline = time.monotonic() + _TIMEOUT
        while True:
            with queries.fresh(self._connection) as connection:
                found = queries.file_at(connection, str(file.target))
                if found is None:
                    return queries.file_from(connection, file.storage, file.place, file.experiment)
                waits = self.has_writer and found == file and queries.is_under_way(connection, file)
            if not waits or time.monotonic() >= deadline:
                return found
            time.sleep(_PAUSE)

    def lasting(self, found: Iterator[Finding]) -> Iterator[Finding]:
        """Skip findings about files that were recorded, or removed, since the records were read."""
        for finding in found:
            with queries.fresh(self._connection) as connection:
                if finding.kind is FindingKind.MISSING and queries.link_at(connection, finding.path) is None:
                    continue
                if finding.kind is FindingKind.FOREIGN and self._is_known(connection, finding.path):
                    continue
            yield finding

    @staticmethod
    def _is_known(connection: Connection, path: str) -> bool:
        if queries.file_at(connection, path) or queries.link_at(connection, path) is not None:
            return True
        return path in {str(file.target) for file in queries.intended(connection)}


class Strangers:
    """The files in experiments that are on no record. Blocks; each is hashed at most once."""

    def __init__(self, root: DataRoot, found: Sequence[Finding]) -> None:
        """Take the files of an audit's findings."""
        self._root = root
        self._by_size: defaultdict[int, list[LocalPath]] = defaultdict(list)
        self._hashes: dict[LocalPath, str] = {}
        for finding in found:
            if finding.kind is FindingKind.FOREIGN:
                self._take(finding.path)

    def _take(self, name: str) -> None:
        try:
            path = LocalPath.parse(name)
            answer = self._root.stat(path)
        except (RejectedPath, Conflict, Refused):
            return
        if answer is not None:
            self._by_size[answer.st_size].append(path)

    def put_back(self, record: FileRecord) -> bool:
        """Copy the content of a record to its free path; return whether it is there now.

        Raise `DiskFull` and `HaltedForSafety`.
        """
        same = next((path for path in self._by_size.get(record.size, ()) if self._hash(path) == record.sha256), None)
        if same is None:
            return False
        with self._root.stage() as staged:
            try:
                with self._root.reading(same) as source:
                    staged.copy(source.fileno(), record.size)
            except (FileNotFoundError, Conflict):
                return False
            if staged.hexdigest != record.sha256:
                return False
            (outcome,) = publish(self._root, [Publication(staged, record.target)])
        return outcome.result in {Result.PUBLISHED, Result.ADOPTED}

    def _hash(self, path: LocalPath) -> str:
        if path not in self._hashes:
            try:
                self._hashes[path] = self._root.sha256(path)
            except (FileNotFoundError, Conflict, Refused):
                self._hashes[path] = ""
        return self._hashes[path]


_GONE = frozenset({FindingKind.MISSING, FindingKind.CHANGED})
_SETTLED_AT_START = frozenset({FindingKind.TEMPORARY, FindingKind.CATALOGUE})


def set_catalogue_aside(settings: Settings) -> Path:
    """Move a damaged catalogue out of the way; return its new path. Raise `Fatal` (exit code 7) while a daemon runs."""
    with DataRoot.open(settings.data_root) as root, DataRootLock.take(root):
        return move_aside(settings.state)


async def repair(settings: Settings, found: Sequence[Finding]) -> list[Finding]:
    """Repair what can be repaired; return the other findings.

    Opening the context rebuilds a lost catalogue, settles unfinished work and clears staging; closing it writes the
    manifests. Raise `Fatal` (exit code 7) while a daemon runs, `HaltedForSafety`.
    """
    with unwrapped():
        async with open_context(settings, NullListener()) as (context, root):
            await context.catalogue_opened.wait()
            damaged = [finding for finding in found if finding.is_damage]
            strangers = await anyio.to_thread.run_sync(Strangers, root, found if damaged else ())
            return [finding for finding in damaged if not await _repaired(context, root, strangers, finding)]


async def _repaired(context: Context, root: DataRoot, strangers: Strangers, finding: Finding) -> bool:
    knowledge = context.catalogue.knowledge
    if finding.kind in _SETTLED_AT_START:
        return True
    path = LocalPath.parse(finding.path)
    record = await context.catalogue.files.holder(path)
    if finding.kind is FindingKind.MANIFEST:
        places: dict[str, str | None] = {each.directory: each.id for each in knowledge.experiments()}
        context.changes.touch([places.get(path.parts[0])])
        return True
    if finding.kind not in _GONE:
        return False
    if record is None:
        await context.catalogue.forget_links([path])
        return True
    if finding.kind is FindingKind.MISSING and await anyio.to_thread.run_sync(strangers.put_back, record):
        return True
    try:
        await anyio.to_thread.run_sync(set_aside, root, path)
    except Conflict:
        return False
    await context.catalogue.forget_files([record])
    context.changes.touch([record.experiment])
    return True
