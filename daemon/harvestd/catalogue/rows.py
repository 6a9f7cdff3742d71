"""Between records and rows: one pair of functions for each table, nothing else."""

import json
from dataclasses import asdict
from typing import Any

from sqlalchemy import Row

from harvestd.convention.artifacts import Kind
from harvestd.convention.facts import ConfigFacts, TrainingInfo
from harvestd.convention.naming import ExperimentName, Part
from harvestd.convention.paths import LocalPath
from harvestd.convention.patterns import Finetuned
from harvestd.convention.records import EvalLink, ExperimentRecord, FileRecord, RunRecord
from harvestd.convention.snapshot import Version


def experiment_row(experiment: ExperimentRecord) -> dict[str, Any]:
    """Give the columns of `experiments`, but for the time it was made."""
    return {
        "id": experiment.id,
        "directory": experiment.directory,
        "name": json.dumps({part: asdict(value) for part, value in experiment.name.parts.items()}),
    }


def experiment_of(row: Row[Any]) -> ExperimentRecord:
    """Read a row of `experiments`."""
    parts = {part: Part(**value) for part, value in json.loads(row.name).items()}
    return ExperimentRecord(row.id, ExperimentName(**parts))


def run_row(run: RunRecord) -> dict[str, Any]:
    """Give the columns of `runs`."""
    facts = {
        "config": asdict(run.config),
        "config_version": asdict(run.config_version),
        "final": asdict(run.final) if run.final else None,
        "final_version": asdict(run.final_version) if run.final_version else None,
        "tunings": [asdict(tuning) for tuning in sorted(run.tunings, key=lambda each: (each.backbone, each.dataset))],
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
    """Read a row of `runs`."""
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
    )


def eval_link_row(link: EvalLink) -> dict[str, Any]:
    """Give the columns of `eval_configs`."""
    return {
        "storage": link.storage,
        "place": link.place,
        "version": json.dumps(asdict(link.version)),
        "training_run": link.training_run,
    }


def eval_link_of(row: Row[Any]) -> EvalLink:
    """Read a row of `eval_configs`."""
    return EvalLink(row.storage, row.place, Version(**json.loads(row.version)), row.training_run)


def file_row(file: FileRecord) -> dict[str, Any]:
    """Give the columns of `files`."""
    return {
        "target": str(file.target),
        "storage": file.storage,
        "place": file.place,
        "host": file.host,
        "experiment": file.experiment,
        "kind": str(file.kind),
        "remote_size": fitting(file.version.size),
        "mtime_ns": fitting(file.version.mtime_ns),
        "ctime_ns": fitting(file.version.ctime_ns),
        "inode": fitting(_signed(file.version.inode)),
        "size": file.size,
        "sha256": file.sha256,
        "fetched_at": file.fetched_at,
        "reason": file.reason,
        "marker": file.marker,
    }


def file_of(row: Any) -> FileRecord:  # noqa: ANN401  (a row, or an intent's copy of one)
    """Read a row of `files`."""
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


_WORD = 1 << 64


def fitting(number: int) -> int:
    """Give the nearest number that SQLite holds: boxes lie, and sums of lies know no bounds."""
    return max(-_WORD // 2, min(_WORD // 2 - 1, number))


def _signed(inode: int) -> int:
    """SQLite's integers have a sign; inode numbers of some file systems use all 64 bits."""
    return inode - _WORD if inode >= _WORD // 2 else inode


def _unsigned(inode: int) -> int:
    return inode + _WORD if inode < 0 else inode
