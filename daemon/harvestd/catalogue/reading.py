"""The catalogue as the command line reads it, beside a running daemon or without one. Changes nothing."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, Row, delete, func, or_, select

from harvestd.catalogue import rows, schema
from harvestd.catalogue.database import FILE_NAME, open_engine
from harvestd.convention.layout import LeftOut
from harvestd.convention.records import ExperimentRecord, FileRecord, RunRecord


def pinned_key(connection: Connection, identity: str) -> str | None:
    """Give the key pinned under `identity`."""
    return connection.execute(select(schema.pins.c.key).where(schema.pins.c.identity == identity)).scalar()


def forget_key(state_dir: Path, identity: str) -> bool:
    """Drop the key pinned under `identity`; tells whether there was one. The one change a command makes by itself."""
    if not (state_dir / FILE_NAME).exists():
        return False
    engine = open_engine(state_dir)
    try:
        with engine.begin() as connection:
            gone = connection.execute(delete(schema.pins).where(schema.pins.c.identity == identity))
            return gone.rowcount > 0
    finally:
        engine.dispose()


def hosts(connection: Connection) -> Sequence[Row[Any]]:
    """Give the rows of all hosts that were ever seen."""
    return connection.execute(select(schema.hosts).order_by(schema.hosts.c.name)).all()


def runs(connection: Connection) -> list[RunRecord]:
    """Give all runs, newest first."""
    statement = select(schema.runs).order_by(schema.runs.c.name.desc(), schema.runs.c.host)
    return [rows.run_of(row) for row in connection.execute(statement)]


def experiments(connection: Connection) -> dict[str, ExperimentRecord]:
    """Give all experiments by id."""
    return {row.id: rows.experiment_of(row) for row in connection.execute(select(schema.experiments))}


@dataclass(frozen=True, slots=True)
class Holding:
    """How much of an experiment is here."""

    files: int
    size: int


def holdings(connection: Connection) -> dict[str | None, Holding]:
    """Give what is here, by experiment; None: unfiled."""
    files = schema.files.c
    statement = select(files.experiment, func.count(), func.sum(files.size)).group_by(files.experiment)
    return {experiment: Holding(count, size) for experiment, count, size in connection.execute(statement).tuples()}


def files_of(connection: Connection, experiment: str) -> list[FileRecord]:
    """Give the files of an experiment by their place at home."""
    statement = select(schema.files).where(schema.files.c.experiment == experiment).order_by(schema.files.c.target)
    return [rows.file_of(row) for row in connection.execute(statement)]


def left_out_of(connection: Connection, experiment: str) -> list[tuple[str, LeftOut]]:
    """Give what is left out of an experiment, as (host, entry)."""
    statement = select(schema.left_out).where(schema.left_out.c.experiment == experiment)
    found = connection.execute(statement.order_by(schema.left_out.c.place))
    return [(row.host, LeftOut(row.place, row.size, row.entries, row.reason)) for row in found]


def file_at(connection: Connection, target: str) -> FileRecord | None:
    """Give the file that stands at `target` below the data root."""
    row = connection.execute(select(schema.files).where(schema.files.c.target == target)).first()
    return rows.file_of(row) if row else None


def files_from(connection: Connection, place: str) -> list[FileRecord]:
    """Give the files that came from this absolute path on any box."""
    return [rows.file_of(row) for row in connection.execute(select(schema.files).where(schema.files.c.place == place))]


def left_out_at(connection: Connection, place: str) -> list[tuple[str, LeftOut]]:
    """Give why `place`, or the directory above it, is left out, as (host, entry)."""
    above = [place[:i] for i, letter in enumerate(place) if letter == "/" and i]
    table = schema.left_out.c
    statement = select(schema.left_out).where(or_(table.place == place, table.place.in_(above)))
    found = connection.execute(statement)
    return [(row.host, LeftOut(row.place, row.size, row.entries, row.reason)) for row in found]
