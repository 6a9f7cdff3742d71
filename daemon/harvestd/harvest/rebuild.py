"""Rebuilds a lost catalogue from the manifests of a data root and the files themselves.

A manifest's entry counts only if a file with its hash exists. A growing file may have grown after its manifest was
written: if it still begins with the recorded content, all of it counts, so that nothing is cut off; before anything is
appended, its whole content is compared with the host's. Nothing is written here. Information that is only on hosts or
from people (host keys, facts of runs, waiting files) is collected from them again.

Restores requests by hand from manifests: from the reasons of fetched files and of skipped entries. A request without
any result is in no manifest, and is lost with the catalogue.
"""

import hashlib
import uuid
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime

from msgspec import field
from msgspec.structs import replace

from harvestd.convention.kinds import Kind
from harvestd.convention.log_rows import lines_in
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import (
    BEGINNING,
    MAX_FACT_BYTES,
    ConfigFacts,
    InvalidFacts,
    TrainingInfo,
    parse_config,
    parse_training_info,
)
from harvestd.convention.metadata.progress import newest_step
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.structs import Immutable
from harvestd.errors import Fatal
from harvestd.planning.identity import head_of
from harvestd.planning.records import UNFILED, ExperimentRecord, FileRecord, RunRecord
from harvestd.planning.requests import BY_HAND, IGNORED, RECORDS, Request, RequestKind
from harvestd.store.checksums import verify_hashes
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.manifest import FiledFile, FileState, Manifest, read_manifest
from harvestd.store.manifest import LeftOut as NotFetched
from harvestd.store.root import DataRoot

_PIECE = 1 << 20
_END = 256 << 10
"""Bytes at a log's end that are searched for its newest step."""
_CONFIG = ("training_run", "config.yaml")
_LOG = ("training_run", "logs", "train_log.jsonl")
_FINAL = ("training_run", "training_state", "step_final", "training_info.json")
_UNKNOWN = Version(-1, 0)
"""A version that equals no remote file's, so the file will be read again."""


class Rebuilt(Immutable):
    """The records from one manifest and its files."""

    experiment: ExperimentRecord | None
    """None: the files in `_unfiled`."""
    directory: str
    """Relative to the data root."""
    runs: tuple[RunRecord, ...]
    files: tuple[FileRecord, ...]
    links: dict[LocalPath, str] = field(default_factory=dict)
    left_out: tuple[tuple[str, LeftOut], ...] = ()
    """As (host, entry)."""
    lost: int = 0
    """The number of files in the manifest that are missing or differ."""


class Unreadable(Immutable):
    """A directory with an unusable manifest."""

    directory: str
    reason: str


def read_back(root: DataRoot) -> tuple[list[Rebuilt], list[Unreadable]]:
    """Return the records from the manifests of the data root; hash every file. Blocks; may raise `HaltedForSafety`."""
    found: list[Rebuilt] = []
    unreadable: list[Unreadable] = []
    seen: dict[str, str] = {}
    for name in root.listing(None):
        try:
            directory = LocalPath((name,))
            manifest = read_manifest(root, directory)
            if manifest is None:
                continue
            original = seen.setdefault(manifest.experiment.id, name)
            if original == name:
                found.append(_rebuilt(root, directory, manifest))
            else:
                unreadable.append(Unreadable(name, f"a copy of {original}: its manifest has the same id"))
        except (Damaged, Refused, Fatal, RejectedPath) as error:
            unreadable.append(Unreadable(name, str(error)))
        except Conflict:
            continue  # a person's file or link, no directory
    return found, unreadable


def _rebuilt(root: DataRoot, directory: LocalPath, manifest: Manifest) -> Rebuilt:
    if directory.name == UNFILED:
        return Rebuilt(None, UNFILED, (), tuple(_proved(root, directory, None, manifest)))
    experiment = experiment_of(manifest, directory.name)
    if not manifest.runs:
        raise Damaged("the manifest names no run")
    files = tuple(_proved(root, directory, experiment.id, manifest))
    here = {file.target for file in files}
    return Rebuilt(
        experiment=experiment,
        directory=experiment.directory,
        runs=runs_of(root, directory, experiment, manifest),
        files=files,
        links={LocalPath.parse(f"{directory}/{link.path}"): link.target for link in manifest.links},
        left_out=tuple((one.host, _line(one)) for one in manifest.left_out),
        lost=sum(one.below(directory) not in here for one in manifest.files),
    )


def _line(one: NotFetched) -> LeftOut:
    return LeftOut(one.path, one.size, 1 if one.entries is None else one.entries, one.reason, gone_at=one.gone_at)


def experiment_of(manifest: Manifest, directory: str) -> ExperimentRecord:
    """Return the experiment of a manifest in `directory`; raise `Damaged` if its name is incomplete."""
    parts = {part: Part(said.value, said.source) for part, said in manifest.experiment.name.items()}
    try:
        name = ExperimentName(**parts)
        moved_to = None if directory == name.directory else directory
        return ExperimentRecord(manifest.experiment.id, name, moved_to, manifest.aliases)
    except TypeError as error:
        raise Damaged("the manifest does not say what the directory is named after") from error


def runs_of(
    root: DataRoot, directory: LocalPath, experiment: ExperimentRecord, manifest: Manifest
) -> tuple[RunRecord, ...]:
    """Return the runs in a manifest, with the facts in their small local files."""
    raw = _beginning(root, directory.child(*_CONFIG))
    config, final = _config(raw), _final(root, directory)
    config_hash = None if raw is None else hashlib.sha256(raw).hexdigest()
    head = head_of(_beginning(root, directory.child(*_LOG)) or b"")
    log = next((each for each in manifest.files if each.path == "/".join(_LOG)), None)
    step = _newest_step(root, directory.child(*_LOG))
    return tuple(
        RunRecord(
            id=run.id or uuid.uuid4().hex,
            storage=run.storage,
            place=run.path,
            host=run.host,
            name=run.name,
            config=config,
            config_version=_UNKNOWN,
            experiment=experiment.id,
            final=final,
            final_version=_UNKNOWN if final else None,
            config_hash=config_hash,
            # Another disk may have a part of the run and no log; its next scan determines that.
            head=head if log is None or run.storage == log.storage else None,
            step=step if log is not None and run.storage == log.storage else None,
        )
        for run in manifest.runs
    )


def _beginning(root: DataRoot, path: LocalPath) -> bytes | None:
    try:
        with root.reading(path) as file:
            return file.read(BEGINNING)
    except (FileNotFoundError, Conflict, Refused):
        return None


def _newest_step(root: DataRoot, log: LocalPath) -> int | None:
    try:
        with root.reading(log) as file:
            file.seek(max(0, file.seek(0, 2) - _END))
            return newest_step(lines_in(file))
    except (FileNotFoundError, Conflict, Refused):
        return None


def _config(raw: bytes | None) -> ConfigFacts:
    try:
        return parse_config(raw or b"")
    except InvalidFacts:
        return ConfigFacts()


def _final(root: DataRoot, directory: LocalPath) -> TrainingInfo | None:
    try:
        return parse_training_info(root.read(directory.child(*_FINAL), MAX_FACT_BYTES))
    except (FileNotFoundError, InvalidFacts, Damaged, Conflict, Refused):
        return None


def _proved(root: DataRoot, directory: LocalPath, experiment: str | None, manifest: Manifest) -> Iterator[FileRecord]:
    records = [_record(directory, experiment, each) for each in manifest.files]
    grown = [
        _grown(root, record) if each.state is FileState.GROWING else record
        for record, each in zip(records, manifest.files, strict=True)
    ]
    candidates = [record for record in grown if record is not None]
    matching = verify_hashes(root, [(record.target, record.sha256) for record in candidates])
    yield from (record for record, matches in zip(candidates, matching, strict=True) if matches)


def _record(directory: LocalPath, experiment: str | None, filed: FiledFile) -> FileRecord:
    return FileRecord(
        storage=filed.storage,
        place=filed.remote_path,
        target=filed.below(directory),
        host=filed.host,
        experiment=experiment,
        kind=_kind(filed),
        version=Version(filed.size, filed.mtime_ns),
        size=filed.size,
        sha256=filed.sha256,
        fetched_at=filed.fetched_at.timestamp(),
        reason=filed.reason,
        marker=filed.marker,
    )


def _kind(filed: FiledFile) -> Kind:
    try:
        return Kind(filed.kind)
    except ValueError as error:
        raise Damaged(f"the manifest names an unknown kind of file: {filed.kind}") from error


def _grown(root: DataRoot, record: FileRecord) -> FileRecord | None:
    """Return the record of the whole local file if it begins with the recorded content; else None."""
    beginning, whole = hashlib.sha256(), hashlib.sha256()
    size = 0
    try:
        with root.reading(record.target) as file:
            while piece := file.read(_PIECE):
                beginning.update(piece[: max(0, record.size - size)])
                whole.update(piece)
                size += len(piece)
    except (FileNotFoundError, Conflict, Refused):
        return None
    if size < record.size or beginning.hexdigest() != record.sha256:
        return None
    return replace(record, size=size, sha256=whole.hexdigest())


_OUTCOME = "read back from the manifest"


def remembered(run: RunRecord, files: Iterable[FileRecord], left_out: Iterable[LeftOut]) -> list[Request]:
    """Return the requests for a run; settled, and without ids."""
    found: dict[str, Request] = {}
    for file in files:
        thing, moment = _thing(run, file), _day(file.reason, BY_HAND)
        if thing and moment is not None:
            found.setdefault(thing, _request(run, RequestKind.FETCH, moment, {"thing": thing}))
    for each in left_out:
        moment = _day(each.reason, IGNORED)
        if moment is not None:
            found.setdefault("", _request(run, RequestKind.IGNORE, moment, {}))
    return list(found.values())


def _request(run: RunRecord, kind: RequestKind, moment: float, detail: dict[str, object]) -> Request:
    return Request(0, kind, run.storage, run.place, moment, detail, moment, moment, _OUTCOME)


def _thing(run: RunRecord, file: FileRecord) -> str:
    if file.kind is Kind.RECORDS:
        return RECORDS
    above = f"{run.place}/training_state/"
    return file.place.removeprefix(above).partition("/")[0] if file.place.startswith(above) else ""


def _day(reason: str, beginning: str) -> float | None:
    """Return the start of the day in a reason, as Unix time; None for any other reason."""
    if not reason.startswith(beginning):
        return None
    try:
        return datetime.strptime(reason.removeprefix(beginning), "%Y-%m-%d").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None
