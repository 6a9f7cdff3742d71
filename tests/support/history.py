"""A catalogue with past experiments, and all of its files in memory where a test reads the index itself."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from sqlalchemy import delete

from harvestd.catalogue import schema, stored_files, stored_records
from harvestd.catalogue.engine import open_engine
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.repository import Catalogue
from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.snapshot import Version
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord

_BASE = 10
"""Files of each experiment that are of base evals."""


async def loaded(catalogue: Catalogue) -> PlanningIndex:
    """Load all files of a catalogue; return the index."""
    with closing(sqlite3.connect(f"file:{_file_of(catalogue)}?mode=ro", uri=True)) as database:
        storages = [storage for (storage,) in database.execute("SELECT storage FROM volumes")]
    await catalogue.files.lease().load((), storages)
    return catalogue.knowledge


def _file_of(catalogue: Catalogue) -> str:
    found = catalogue.database.engine.url.database
    assert found is not None
    return found


def experiment(number: int) -> ExperimentRecord:
    """Return one of the past experiments."""
    words = ("gns_test", f"2025-{number:05}", "qwen2_5_1_5b", "h100", "64")
    return ExperimentRecord(f"e{number:05}", ExperimentName(*(Part(word, "test") for word in words)))


def run(number: int) -> RunRecord:
    """Return the run of a past experiment, on a host that is gone."""
    place, name = f"/data/training_runs/run_{number}", f"run_{number}"
    return RunRecord(
        id=f"r{number:05}",
        storage=f"gone-{number // 10}",
        place=place,
        host=f"gone-{number // 10}",
        name=name,
        config=ConfigFacts("Qwen/Qwen2.5-1.5B", "qwen2_5_15", 64, "gsm8k"),
        config_version=Version(900, number, number, number),
        experiment=f"e{number:05}",
    )


def files(number: int, count: int) -> Iterator[FileRecord]:
    """Yield the files of a past experiment."""
    of_run, above = run(number), experiment(number).directory
    for i in range(count):
        base = i < _BASE
        below = f"base_eval/temp0/{i}.csv" if base else f"eval_results/run_{number}_gsm8k/step_{i}/temp0/metrics.csv"
        yield FileRecord(
            storage=of_run.storage,
            place=f"/data/eval_runs/run_{number}_gsm8k/step_{i}/temp0/metrics.csv",
            target=LocalPath.parse(f"{above}/{below}"),
            host=of_run.host,
            experiment=of_run.experiment,
            kind=Kind.METRICS,
            version=Version(1000 + i, i, i, number * 1000 + i),
            size=1000 + i,
            sha256=f"{number * 1000 + i:064x}",
            fetched_at=1_755_700_000.0,
            reason="eval results",
        )


def write_history(state_dir: Path, data_root_id: str, experiments: int, files_of_each: int) -> None:
    """Make the catalogue of a data root that fetched so many experiments from hosts that are gone."""
    open_catalogue(state_dir, data_root_id).close()
    add_history(state_dir, experiments, files_of_each)


def add_history(state_dir: Path, experiments: int, files_of_each: int) -> None:
    """Add so many past experiments to a catalogue that no process has open."""
    engine = open_engine(state_dir)
    try:
        with engine.begin() as connection:
            for number in range(experiments):
                stored_records.add_experiment(connection, experiment(number))
                stored_records.add_runs(connection, [run(number)])
                stored_files.save(connection, list(files(number, files_of_each)))
            connection.execute(delete(schema.meta).where(schema.meta.c.key == schema.REBUILD))
    finally:
        engine.dispose()
