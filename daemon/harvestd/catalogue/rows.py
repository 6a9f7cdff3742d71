"""Conversion between records and rows: one pair of functions for each table."""

import json
from collections.abc import Callable, Sequence
from functools import cache
from sys import intern
from types import SimpleNamespace
from typing import Any, Final

from msgspec.structs import asdict
from sqlalchemy import Row
from sqlalchemy.dialects.sqlite import dialect, insert

from harvestd.catalogue import schema
from harvestd.catalogue.entries import VerdictRecord
from harvestd.convention.kinds import Finetuned, Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.paths import LocalPath, decoded
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.scan.snapshot import Version
from harvestd.json_text import json_text
from harvestd.planning.records import EvalLink, ExperimentRecord, FileRecord, RunRecord
from harvestd.planning.requests import Request, RequestKind
from harvestd.planning.run_status import RunStatus, RunTrouble
from harvestd.safety.verdict import text_of, verdict_of_text


def experiment_row(experiment: ExperimentRecord) -> dict[str, Any]:
    """Return the columns of `experiments`, except the creation time."""
    return {
        "id": experiment.id,
        "directory": experiment.directory,
        "name": name_text(experiment.name),
        "moved_to": experiment.moved_to,
        "aliases": json.dumps(experiment.aliases),
        "gone": experiment.gone,
    }


def experiment_of(row: Row[Any]) -> ExperimentRecord:
    """Return the record in a row of `experiments`."""
    aliases = tuple(json.loads(row.aliases))
    return ExperimentRecord(row.id, name_of(row.name), row.moved_to, aliases, gone=row.gone)


def name_text(name: ExperimentName) -> str:
    """Return the JSON text of a name with its sources."""
    return json.dumps({part: asdict(value) for part, value in name.parts.items()})


def name_of(text: str) -> ExperimentName:
    """Return the name in a JSON text."""
    return ExperimentName(**{part: Part(**value) for part, value in json.loads(text).items()})


def run_row(run: RunRecord) -> dict[str, Any]:
    """Return the columns of `runs`."""
    facts = {
        "config": asdict(run.config),
        "config_version": asdict(run.config_version),
        "final": asdict(run.final) if run.final else None,
        "final_version": asdict(run.final_version) if run.final_version else None,
        "tunings": [asdict(tuning) for tuning in sorted(run.tunings, key=lambda each: (each.backbone, each.dataset))],
        "config_hash": run.config_hash,
        "head": run.head,
        "base_model": run.base_model,
        "writer": run.writer,
        "identity": run.identity,
        "step_at": run.step_at,
        "trouble": asdict(run.trouble) if run.trouble else None,
    }
    return {
        "id": run.id,
        "storage": run.storage,
        "place": run.place,
        "host": run.host,
        "name": run.name,
        "experiment": run.experiment,
        "facts": json.dumps(facts),
        "step": run.step,
        "seconds_left": run.seconds_left,
    }


def run_of(row: Row[Any]) -> RunRecord:
    """Return the record in a row of `runs`."""
    facts = json.loads(row.facts)
    return RunRecord(
        id=row.id,
        storage=row.storage,
        place=row.place,
        host=row.host,
        name=row.name,
        experiment=row.experiment,
        config=ConfigFacts(**facts["config"]),
        config_version=Version(**facts["config_version"]),
        final=TrainingInfo(**facts["final"]) if facts["final"] else None,
        final_version=Version(**facts["final_version"]) if facts["final_version"] else None,
        tunings=frozenset(Finetuned(**each) for each in facts["tunings"]),
        step=row.step,
        seconds_left=row.seconds_left,
        # Rows of earlier versions lack these.
        config_hash=facts.get("config_hash"),
        head=facts.get("head"),
        base_model=facts.get("base_model"),
        writer=facts.get("writer"),
        identity=facts.get("identity"),
        step_at=facts.get("step_at"),
        trouble=_trouble_of(facts.get("trouble")),
    )


def _trouble_of(facts: dict[str, Any] | None) -> RunTrouble | None:
    return RunTrouble(RunStatus(facts["status"]), facts["since"]) if facts else None


def eval_link_row(link: EvalLink) -> dict[str, Any]:
    """Return the columns of `eval_configs`."""
    return {
        "storage": link.storage,
        "place": link.place,
        "version": json.dumps(asdict(link.version)),
        "training_run": link.training_run,
    }


def eval_link_of(row: Row[Any]) -> EvalLink:
    """Return the record in a row of `eval_configs`."""
    return EvalLink(row.storage, row.place, Version(**json.loads(row.version)), row.training_run)


def left_out_of(row: Row[Any]) -> LeftOut:
    """Return the record in a row of `left_out`."""
    return LeftOut(row.place, row.size, row.entries, row.reason, gone_at=row.gone_at)


def request_row(request: Request) -> dict[str, Any]:
    """Return the columns of `requests`, except the id, which the database assigns."""
    return {
        "asked_at": request.asked_at,
        "kind": request.kind.value,
        "storage": request.storage,
        "place": request.place,
        "detail": json.dumps(dict(request.detail)),
        "taken_at": request.taken_at,
        "settled_at": request.settled_at,
        "outcome": request.outcome,
    }


def request_of(row: Row[Any]) -> Request:
    """Return the record in a row of `requests`."""
    return Request(
        id=row.id,
        kind=RequestKind(row.kind),
        storage=row.storage,
        place=row.place,
        asked_at=row.asked_at,
        detail=json.loads(row.detail),
        taken_at=row.taken_at,
        settled_at=row.settled_at,
        outcome=row.outcome,
    )


def verdict_row(record: VerdictRecord) -> dict[str, Any]:
    """Return the columns of `verdicts`."""
    return {
        "identity": record.identity,
        "name": record.name,
        "verdict": text_of(record.verdict),
        "judged_at": record.judged_at,
        "idle_since": record.idle_since,
        "cents_per_hour": None if record.cents_per_hour is None else fitting(record.cents_per_hour),
    }


def verdict_record_of(row: Row[Any]) -> VerdictRecord:
    """Return the record in a row of `verdicts`; raise errors as `safety.documents.verdict_of` does."""
    return VerdictRecord(
        row.identity, row.name, verdict_of_text(row.verdict), row.judged_at, row.idle_since, row.cents_per_hour
    )


FILE_COLUMNS: Final = tuple(f"{column.name}" for column in schema.files.columns)
"""The column names in the order of `file_row`, as plain strings."""


@cache
def upsert_of_files() -> str:
    """Return the SQL text that inserts or replaces rows of `files`.

    SQLAlchemy would take longer for each row than SQLite does.
    """
    statement = insert(schema.files)
    columns = {name: statement.excluded[name] for name in FILE_COLUMNS if name != "target"}
    return str(statement.on_conflict_do_update(index_elements=["target"], set_=columns).compile(dialect=dialect()))


def file_row(file: FileRecord) -> tuple[str | bytes | float | None, ...]:
    """Return the values of a row of `files`, in the order of `FILE_COLUMNS` and in the driver's types."""
    return _file_values(file, schema.stored)


def _file_values(file: FileRecord, named: Callable[[str], str | bytes]) -> tuple[str | bytes | float | None, ...]:
    # Thousands are written at a time, so names and types are bypassed.
    version = file.version
    return (
        named(str(file.target)),
        file.storage,
        named(file.place),
        file.host,
        file.experiment,
        file.kind.value,
        fitting(version.size),
        fitting(version.mtime_ns),
        fitting(version.ctime_ns),
        fitting(_signed(version.inode)),
        file.size,
        file.sha256,
        file.fetched_at,
        named(file.reason),
        file.marker,
    )


def file_of(row: Any) -> FileRecord:  # noqa: ANN401  (a row, or an intent's copy of one)
    """Return the record in a row of `files`."""
    return FileRecord(
        storage=row.storage,
        place=row.place,
        target=LocalPath.parse(row.target),
        host=row.host,
        experiment=row.experiment,
        kind=Kind(row.kind),
        version=Version(row.remote_size, row.mtime_ns, row.ctime_ns, _unsigned(row.inode)),
        size=row.size,
        sha256=row.sha256,
        fetched_at=row.fetched_at,
        reason=row.reason,
        marker=bool(row.marker),
    )


def file_of_values(values: Sequence[Any]) -> FileRecord:
    """Return the record in a row of `files` as the driver returns it, in the order of `FILE_COLUMNS`."""
    target, storage, place, host, experiment, kind, *numbers, size, sha256, fetched_at, reason, marker = values
    remote_size, mtime_ns, ctime_ns, inode = numbers
    return FileRecord(
        storage=intern(storage),
        place=_path_text(place),
        target=LocalPath.parse(_path_text(target)),
        host=intern(host),
        experiment=None if experiment is None else intern(experiment),
        kind=Kind(kind),
        version=Version(remote_size, mtime_ns, ctime_ns, _unsigned(inode)),
        size=size,
        sha256=sha256,
        fetched_at=fetched_at,
        reason=_path_text(reason),
        marker=bool(marker),
    )


def _path_text(value: str | bytes) -> str:
    return decoded(value) if isinstance(value, bytes) else value


def intent_text(files: Sequence[FileRecord], moved_from: Sequence[LocalPath] = ()) -> str:
    """Return the text of one intent: the columns, and a row for each file, all ASCII."""
    # A name that is not UTF-8 is bytes in a row, and lone surrogates in JSON.
    content: dict[str, object] = {"columns": FILE_COLUMNS, "rows": [_file_values(file, str) for file in files]}
    if moved_from:
        content["moved_from"] = [str(path) for path in moved_from]
    return json_text(content)


def moved_from_of_intent(content: str) -> tuple[LocalPath, ...]:
    """Return the previous paths of the files of one intent, if they were about to be moved."""
    return tuple(LocalPath.parse(path) for path in json.loads(content).get("moved_from", ()))


def files_of_intent(content: str) -> tuple[FileRecord, ...]:
    """Return the files in the text of one intent."""
    found = json.loads(content)
    columns = found["columns"]
    return tuple(file_of(SimpleNamespace(**dict(zip(columns, row, strict=True)))) for row in found["rows"])


_WORD = 1 << 64
_LEAST, _MOST = -_WORD // 2, _WORD // 2 - 1


def fitting(number: int) -> int:
    """Return the nearest number that SQLite can hold: numbers from hosts, and their sums, are unbounded."""
    return number if _LEAST <= number <= _MOST else max(_LEAST, min(_MOST, number))


def _signed(inode: int) -> int:
    """Return a 64-bit inode number as a signed one: SQLite's integers are signed, and some inodes use all bits."""
    return inode - _WORD if inode >= _WORD // 2 else inode


def _unsigned(inode: int) -> int:
    return inode + _WORD if inode < 0 else inode
