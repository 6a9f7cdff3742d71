"""The audit: reads and hashes every recorded file, and reports everything else beside them.

Blocks: callers run it in a thread, and may stop between any two findings. Memory is proportional to the records; no
file is kept in memory. Beside a running daemon only `of_files` and `of_strangers` are meaningful: other findings are
about work in progress.
"""

import hashlib
import stat
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from enum import StrEnum
from typing import BinaryIO

from harvestd.convention.kinds import GROWING
from harvestd.convention.paths import LocalPath, RejectedPath, is_report
from harvestd.convention.structs import Immutable
from harvestd.errors import Fatal
from harvestd.planning.records import UNFILED, ExperimentRecord, FileRecord
from harvestd.store.errors import Conflict, Damaged, Refused, shown
from harvestd.store.manifest import NAME as MANIFEST
from harvestd.store.manifest import read_manifest
from harvestd.store.root import DataRoot


class FindingKind(StrEnum):
    """The kind of a finding."""

    CATALOGUE = "catalogue"
    """The catalogue can't be read, or is gone."""
    MISSING = "missing"
    """Recorded, but absent."""
    CHANGED = "changed"
    """Its content differs from what was published: damage, or a person's edit."""
    IN_THE_WAY = "in the way"
    """A link, a directory or something unreadable is in place of a file."""
    LAX = "lax"
    """It is executable, or has special bits: modes that harvestd never sets."""
    TEMPORARY = "temporary"
    """Left in staging without a transfer that resumes it."""
    UNSETTLED = "unsettled"
    """Was about to be published or removed when a process ended; the next start completes that."""
    MANIFEST = "manifest"
    """An experiment's manifest.json can't be read."""
    BEHIND = "behind"
    """An experiment's manifest.json lacks entries of the catalogue; it is written with a delay."""
    LONGER = "longer"
    """It is longer than recorded; the next start checks whether the rest belongs to its source."""
    FOREIGN = "foreign"
    """A person's own file or link in an experiment's directory."""


_HARMLESS = frozenset(
    {FindingKind.BEHIND, FindingKind.LONGER, FindingKind.FOREIGN, FindingKind.UNSETTLED, FindingKind.LAX}
)


class Finding(Immutable):
    """One difference from the records."""

    kind: FindingKind
    path: str
    """Relative to the data root."""
    detail: str = ""

    @property
    def is_damage(self) -> bool:
        """Whether a repair is required."""
        return self.kind not in _HARMLESS


_PIECE = 1 << 20
_LAX = stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH | stat.S_ISUID | stat.S_ISGID | stat.S_ISVTX


def of_files(
    root: DataRoot,
    files: Sequence[FileRecord],
    now_of: Callable[[FileRecord], FileRecord | None],
    checked: Callable[[FileRecord], None],
) -> Iterator[Finding]:
    """Yield a finding for each file that differs from its record.

    `now_of` returns the present record, None if it was deleted: a daemon may have changed it meanwhile. `checked` is
    called for each file after it was read.
    """
    for file in files:
        record: FileRecord | None = file
        while record is not None and (finding := _of_file(root, record)) is not None:
            newer = now_of(record)
            if newer == record:
                yield finding
                break
            record = newer
        checked(file)


def _of_file(root: DataRoot, file: FileRecord) -> Finding | None:
    path = str(file.target)
    try:
        answer = root.stat(file.target)
        if answer is None:
            return Finding(FindingKind.MISSING, path)
        with root.reading(file.target) as reader:
            found = _prefix_hash(reader, file.size)
    except FileNotFoundError:
        return Finding(FindingKind.MISSING, path)
    except (Conflict, Refused) as error:
        return Finding(FindingKind.IN_THE_WAY, path, str(error))
    if answer.st_size < file.size or found != file.sha256:
        return Finding(FindingKind.CHANGED, path, _difference(answer.st_size, file))
    if answer.st_size > file.size:
        kind = FindingKind.LONGER if file.kind in GROWING else FindingKind.CHANGED
        return Finding(kind, path, _difference(answer.st_size, file))
    if answer.st_mode & _LAX:
        return Finding(FindingKind.LAX, path, f"its mode is {stat.S_IMODE(answer.st_mode):04o}")
    return None


def _difference(size: int, file: FileRecord) -> str:
    return "another hash" if size == file.size else f"{size} bytes, on record are {file.size}"


def _prefix_hash(reader: BinaryIO, size: int) -> str:
    digest = hashlib.sha256()
    while size > 0 and (piece := reader.read(min(_PIECE, size))):
        digest.update(piece)
        size -= len(piece)
    return digest.hexdigest()


def of_strangers(
    root: DataRoot, directories: Collection[str], known: Collection[LocalPath], links: Mapping[LocalPath, str]
) -> Iterator[Finding]:
    """Yield unrecorded entries in these directories (experiments, `_unfiled`), and recorded links that are missing."""
    for name in sorted(directories):
        yield from _below(root, LocalPath((name,)), known, links)
    for path in sorted(links):
        if path.parts[0] in directories and _stat(root, path) is None:
            yield Finding(FindingKind.MISSING, str(path), "a link")


def _below(
    root: DataRoot, directory: LocalPath, known: Collection[LocalPath], links: Mapping[LocalPath, str]
) -> Iterator[Finding]:
    try:
        listing = root.listing(directory)
    except (FileNotFoundError, Conflict):
        return
    for name, answer in listing.items():
        try:
            path = directory / name
        except RejectedPath as error:
            yield Finding(FindingKind.FOREIGN, shown(f"{directory}/{name}"), str(error))
            continue
        if stat.S_ISDIR(answer.st_mode):
            yield from _below(root, path, known, links)
        elif path in known or path in links or path.parts[1:] == (MANIFEST,) or _is_report(path):
            continue
        else:
            yield Finding(FindingKind.FOREIGN, str(path))


def _is_report(path: LocalPath) -> bool:
    return path.parts[0] != UNFILED and is_report(path.parts[1:])


def _stat(root: DataRoot, path: LocalPath) -> object:
    try:
        return root.stat(path)
    except Conflict:
        return None


def of_staging(root: DataRoot, journalled: Collection[str], intended: Sequence[FileRecord]) -> Iterator[Finding]:
    """Yield temporaries without a journalled transfer, and files that were about to be published."""
    for name in root.staged_names():
        if name not in journalled:
            yield Finding(FindingKind.TEMPORARY, name)
    for file in intended:
        yield Finding(FindingKind.UNSETTLED, str(file.target))


def of_manifests(
    root: DataRoot, experiments: Sequence[ExperimentRecord], files: Sequence[FileRecord]
) -> Iterator[Finding]:
    """Yield a finding for each experiment whose manifest differs from its records."""
    by_experiment: dict[str | None, set[tuple[str, int, str]]] = {}
    for file in files:
        entry = ("/".join(file.target.parts[1:]), file.size, file.sha256)
        by_experiment.setdefault(file.experiment, set()).add(entry)
    places: dict[str | None, str] = {experiment.id: experiment.directory for experiment in experiments}
    for identifier, directory in {**places, None: UNFILED}.items():
        recorded = by_experiment.get(identifier)
        finding = _of_manifest(root, directory, identifier or "", recorded) if recorded else None
        if finding:
            yield finding


def _of_manifest(
    root: DataRoot, directory: str, identifier: str, recorded: set[tuple[str, int, str]]
) -> Finding | None:
    path = f"{directory}/{MANIFEST}"
    try:
        manifest = read_manifest(root, LocalPath((directory,)))
    except (Damaged, Conflict, Fatal, Refused) as error:
        return Finding(FindingKind.MANIFEST, path, str(error))
    if manifest is not None and manifest.experiment.id != identifier:
        return Finding(FindingKind.MANIFEST, path, "it is another experiment's")
    told = {(file.path, file.size, file.sha256) for file in manifest.files} if manifest else set()
    behind = len(recorded ^ told)
    return Finding(FindingKind.BEHIND, path, f"{behind} entries differ from the catalogue's") if behind else None
