"""Conversion between records and rows: one pair of functions for each table."""

import json
from collections.abc import Mapping, Sequence
from sys import intern
from types import SimpleNamespace
from typing import Any, Final

from msgspec.structs import asdict
from sqlalchemy import FromClause, Label, Row, Select, select

from harvestd.catalogue import schema
from harvestd.catalogue.entries import Orphans, VerdictRecord
from harvestd.convention.kinds import Finetuned, Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts, TrainingInfo
from harvestd.convention.paths import LocalPath, decoded
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.scan.snapshot import Version
from harvestd.planning.records import EvalLink, ExperimentRecord, FileRecord, RunRecord
from harvestd.planning.requests import Request, RequestKind
from harvestd.planning.run_status import RunProblem, RunStatus
from harvestd.safety.verdict import text_of, verdict_of_text


def experiment_row(experiment: ExperimentRecord) -> dict[str, Any]:
    """Return the columns of `experiments`, except the creation time and the claimed name."""
    return {
        "id": experiment.id,
        "directory": experiment.directory,
        "name": name_text(experiment.name),
        "moved_to": experiment.moved_to,
        "gone": experiment.gone,
        "row_version": experiment.row_version,
    }


def experiment_of(row: Row[Any], aliases: Sequence[str]) -> ExperimentRecord:
    """Return the record in a row of `experiments`, with the names in its rows of `aliases`."""
    name = name_of(row.name)
    return ExperimentRecord(row.id, name, row.moved_to, tuple(aliases), gone=row.gone, row_version=row.row_version)


def name_text(name: ExperimentName) -> str:
    """Return the JSON text of a name with its sources."""
    return json.dumps({part: asdict(value) for part, value in name.parts.items()})


def name_of(text: str) -> ExperimentName:
    """Return the name in a JSON text."""
    return ExperimentName(**{part: Part(**value) for part, value in json.loads(text).items()})


def run_row(run: RunRecord, volume_id: int) -> dict[str, Any]:
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
        "trouble": asdict(run.problem) if run.problem else None,
    }
    return {
        "id": run.id,
        "volume_id": volume_id,
        "place": run.place,
        "host": run.host,
        "name": run.name,
        "experiment_id": run.experiment,
        "facts": json.dumps(facts),
        "step": run.step,
        "seconds_left": run.seconds_left,
        "row_version": run.row_version,
    }


def runs() -> Select[Any]:
    """Return the query of all runs; `run_of` converts its rows."""
    return select(schema.runs, _storage(schema.runs))


def run_of(row: Any) -> RunRecord:  # noqa: ANN401  (a row of the query above, or a copy of one)
    """Return the record in a row of `runs`."""
    facts = json.loads(row.facts)
    return RunRecord(
        id=row.id,
        storage=row.storage,
        place=row.place,
        host=row.host,
        name=row.name,
        experiment=row.experiment_id,
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
        problem=_problem_of(facts.get("trouble")),
        row_version=row.row_version,
    )


def _problem_of(facts: dict[str, Any] | None) -> RunProblem | None:
    return RunProblem(RunStatus(facts["status"]), facts["since"]) if facts else None


def eval_link_row(link: EvalLink, volume_id: int) -> dict[str, Any]:
    """Return the columns of `eval_configs`."""
    return {
        "volume_id": volume_id,
        "place": link.place,
        "version": json.dumps(asdict(link.version)),
        "training_run": link.training_run,
    }


def eval_links() -> Select[Any]:
    """Return the query of all rows of `eval_configs`; `eval_link_of` converts them."""
    return select(schema.eval_configs, _storage(schema.eval_configs))


def eval_link_of(row: Row[Any]) -> EvalLink:
    """Return the record in a row of `eval_configs`."""
    return EvalLink(row.storage, row.place, Version(**json.loads(row.version)), row.training_run)


def left_out_of(row: Row[Any]) -> LeftOut:
    """Return the record in a row of `left_out`."""
    return LeftOut(row.place, row.size, row.entries, row.reason, gone_at=row.gone_at)


def request_row(request: Request, subject: Mapping[str, int]) -> dict[str, Any]:
    """Return the columns of `requests`, except the id, which the database assigns.

    `subject`: the column `volume_id` of a run's request, or `host_id` of one for a verdict.
    """
    return {
        "asked_at": request.asked_at,
        "kind": request.kind.value,
        **subject,
        "place": request.place,
        "detail": json.dumps(dict(request.detail)),
        "taken_at": request.taken_at,
        "settled_at": request.settled_at,
        "outcome": request.outcome,
    }


def requests() -> Select[Any]:
    """Return the query of all requests; `request_of` converts its rows."""
    return select(schema.requests, _storage(schema.requests), _identity(schema.requests))


def request_of(row: Row[Any]) -> Request:
    """Return the record in a row of `requests`."""
    return Request(
        id=row.id,
        kind=RequestKind(row.kind),
        storage=row.identity if row.host_id is not None else row.storage,
        place=row.place,
        asked_at=row.asked_at,
        detail=json.loads(row.detail),
        taken_at=row.taken_at,
        settled_at=row.settled_at,
        outcome=row.outcome,
    )


def verdict_row(record: VerdictRecord, host_id: int) -> dict[str, Any]:
    """Return the columns of `verdicts`."""
    return {
        "host_id": host_id,
        "name": record.name,
        "verdict": text_of(record.verdict),
        "judged_at": record.judged_at,
        "idle_since": record.idle_since,
        "cents_per_hour": None if record.cents_per_hour is None else fitting(record.cents_per_hour),
    }


def verdicts() -> Select[Any]:
    """Return the query of all verdicts; `verdict_record_of` converts its rows."""
    return select(schema.verdicts, _identity(schema.verdicts))


def verdict_record_of(row: Row[Any]) -> VerdictRecord:
    """Return the record in a row of `verdicts`; raise errors as `safety.documents.verdict_of` does."""
    return VerdictRecord(
        row.identity, row.name, verdict_of_text(row.verdict), row.judged_at, row.idle_since, row.cents_per_hour
    )


def releases() -> Select[Any]:
    """Return the query of all decisions about releasing hosts, with `identity`."""
    return select(schema.releases, _identity(schema.releases))


def transfers() -> Select[Any]:
    """Return the query of all journalled transfers, with `storage`."""
    return select(schema.transfers, _storage(schema.transfers))


def left_out() -> Select[Any]:
    """Return the query of all skipped entries, with `identity`; `left_out_of` converts its rows."""
    return select(schema.left_out, _identity(schema.left_out))


def links() -> Select[Any]:
    """Return the query of all local links; `local_path_of` returns the path in one of its rows."""
    return select(schema.links, _directory(schema.links))


def files() -> Select[Any]:
    """Return the query of all files; `file_of` converts its rows."""
    return select(schema.files, _directory(schema.files), _storage(schema.files))


def file_of(row: Row[Any]) -> FileRecord:
    """Return the record in a row of `files`."""
    target = local_text(row.directory, row.path)
    return file_of_values(target, row.experiment_id, row.storage, [getattr(row, name) for name in SOURCE_COLUMNS[1:]])


def local_path_of(row: Row[Any]) -> LocalPath:
    """Return the local path of a file or link."""
    return LocalPath.parse(local_text(row.directory, row.path))


def _directory(table: FromClause) -> Label[str | None]:
    """Return the column `directory` of the experiment of a table's rows."""
    experiments = schema.experiments.c
    found = select(experiments.directory).where(experiments.id == table.c.experiment_id).correlate(table)
    return found.scalar_subquery().label("directory")


def _storage(table: FromClause) -> Label[str]:
    """Return the column `storage` of a table's volume. A subquery keeps the order in which SQLite reads the table."""
    volumes = schema.volumes.c
    found = select(volumes.storage).where(volumes.id == table.c.volume_id).correlate(table)
    return found.scalar_subquery().label("storage")


def _identity(table: FromClause) -> Label[str]:
    """Return the column `identity` of a table's host."""
    hosts = schema.hosts.c
    found = select(hosts.identity).where(hosts.id == table.c.host_id).correlate(table)
    return found.scalar_subquery().label("identity")


SOURCE_COLUMNS: Final = tuple(f"{column.name}" for column in schema.files.columns)[3:]
"""The columns of `files` and `intent_files` that `source_values` returns, as plain strings."""


def source_values(file: FileRecord, volume_id: int) -> tuple[str | bytes | float | None, ...]:
    """Return the values of `SOURCE_COLUMNS`, in the driver's types."""
    # Thousands are written at a time, so names and types are bypassed.
    version = file.version
    return (
        volume_id,
        schema.stored(file.place),
        file.host,
        file.kind.value,
        fitting(version.size),
        fitting(version.mtime_ns),
        fitting(version.ctime_ns),
        fitting(_signed(version.inode)),
        file.size,
        file.sha256,
        file.fetched_at,
        schema.stored(file.reason),
        file.marker,
    )


def file_of_values(target: str, experiment: str | None, storage: str, source: Sequence[Any]) -> FileRecord:
    """Return a record of a file from the driver's values; `source`: `SOURCE_COLUMNS` without the volume."""
    place, host, kind, *numbers, size, sha256, fetched_at, reason, marker = source
    remote_size, mtime_ns, ctime_ns, inode = numbers
    return FileRecord(
        storage=intern(storage),
        place=path_text(place),
        target=LocalPath.parse(target),
        host=intern(host),
        experiment=None if experiment is None else intern(experiment),
        kind=Kind(kind),
        version=Version(remote_size, mtime_ns, ctime_ns, _unsigned(inode)),
        size=size,
        sha256=sha256,
        fetched_at=fetched_at,
        reason=path_text(reason),
        marker=bool(marker),
    )


def path_text(value: str | bytes) -> str:
    """Return the `str` form of a stored path (see `schema.stored`)."""
    return decoded(value) if isinstance(value, bytes) else value


def local_text(directory: str | bytes | None, path: str | bytes) -> str:
    """Return the path below the data root of a file or link of the experiment with this directory; None: of none."""
    if directory is None:
        return path_text(path)
    return f"{path_text(directory)}/{path_text(path)}" if path else path_text(directory)


def relative_text(target: LocalPath, experiment: str | None) -> str | bytes:
    """Return the column `path` of a file or link: below its experiment's directory, or below the data root."""
    return schema.stored(str(target) if experiment is None else "/".join(target[1:]))


def orphans_of(text: str) -> Orphans:
    """Return the rows of an earlier version that migration 0009 kept apart as JSON."""
    found = json.loads(text)
    files = (
        file_of_values(row["target"], row["experiment_id"], row["storage"], [row[name] for name in SOURCE_COLUMNS[1:]])
        for row in found["files"]
    )
    return Orphans(tuple(run_of(SimpleNamespace(**row)) for row in found["runs"]), tuple(files))


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
