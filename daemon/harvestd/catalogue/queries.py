"""The catalogue as the command line reads it, beside a running daemon or without one. Changes nothing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, and_, create_engine, delete, func, or_, select

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import open_engine, reading, translated, writing
from harvestd.catalogue.entries import VerdictRecord
from harvestd.catalogue.host_keys import FILE_NAME
from harvestd.catalogue.tables.devices import forget_devices
from harvestd.convention.kinds import Kind
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.structs import Immutable
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord
from harvestd.planning.requests import Request


@contextmanager
def questions(state_dir: Path) -> Iterator[Connection]:
    """Open the catalogue below `state_dir` for questions; an empty one where none was written yet.

    Raises `Fatal` for another schema, `HaltedForSafety` where the file can't be read.
    """
    with reading(state_dir) as stored:
        if stored is not None:
            yield stored
            return
        engine = create_engine("sqlite://")
        with engine.connect() as empty:
            schema.metadata.create_all(empty)
            empty.commit()
            yield empty
        engine.dispose()


@contextmanager
def fresh(connection: Connection) -> Iterator[Connection]:
    """Let the questions of the body see what is on record by now, and pin no snapshot after it.

    A read transaction that stays open sees the rows of its beginning, and keeps a daemon's log from being checkpointed.
    """
    connection.rollback()
    try:
        yield connection
    finally:
        connection.rollback()


def forget_key(state_dir: Path, identity: str) -> bool:
    """Drop the key pinned under `identity`, and where its trees lay: tells whether there was a key."""
    if not (state_dir / FILE_NAME).exists():
        return False
    engine = open_engine(state_dir)
    try:
        with translated(), writing(engine) as connection:
            gone = connection.execute(delete(schema.pins).where(schema.pins.c.identity == identity))
            forget_devices(connection, identity)
            return gone.rowcount > 0
    finally:
        engine.dispose()


def accept_root(state_dir: Path, identity: str) -> bool:
    """Drop which file systems a host's trees were on: those of its next verdict count. Return whether any was kept."""
    if not (state_dir / FILE_NAME).exists():
        return False
    engine = open_engine(state_dir)
    try:
        with translated(), writing(engine) as connection:
            return forget_devices(connection, identity)
    finally:
        engine.dispose()


def hosts(connection: Connection) -> Sequence[Row[Any]]:
    """Return the rows of all hosts that were ever seen."""
    return connection.execute(select(schema.hosts).order_by(schema.hosts.c.name)).all()


def runs(connection: Connection) -> list[RunRecord]:
    """Return all runs, newest first."""
    statement = select(schema.runs).order_by(schema.runs.c.name.desc(), schema.runs.c.host)
    return [rows.run_of(row) for row in connection.execute(statement)]


def experiments(connection: Connection) -> dict[str, ExperimentRecord]:
    """Return all experiments by id."""
    return {row.id: rows.experiment_of(row) for row in connection.execute(select(schema.experiments))}


def requests(connection: Connection) -> list[Request]:
    """Return all that was ever asked for by hand, oldest first."""
    return [rows.request_of(row) for row in connection.execute(select(schema.requests).order_by(schema.requests.c.id))]


def verdicts(connection: Connection) -> dict[str, VerdictRecord]:
    """Return the newest verdict on each host that was ever judged, by its identity."""
    found = {row.identity: _verdict(row) for row in connection.execute(select(schema.verdicts))}
    return {identity: record for identity, record in found.items() if record is not None}


def verdict_on(connection: Connection, identity: str) -> VerdictRecord | None:
    """Return the newest verdict on one host; None: it was never judged."""
    row = connection.execute(select(schema.verdicts).where(schema.verdicts.c.identity == identity)).first()
    return _verdict(row) if row else None


def _verdict(row: Row[Any]) -> VerdictRecord | None:
    """Read a verdict; one in words of another harvestd says nothing, and what is not known is not safe."""
    try:
        return rows.verdict_record_of(row)
    except (ValueError, KeyError, TypeError):
        return None


def request(connection: Connection, number: int) -> Request | None:
    """Return what was asked for by hand under this id; None where nothing was, or it is forgotten."""
    row = connection.execute(select(schema.requests).where(schema.requests.c.id == number)).first()
    return rows.request_of(row) if row else None


class Holding(Immutable):
    """How much of an experiment is here."""

    files: int
    size: int
    evals: int = 0
    """Leaves with a metrics.csv."""
    newest: float | None = None
    """When the last of it came, in Unix time."""


def holdings(connection: Connection) -> dict[str | None, Holding]:
    """Return what is here, by experiment; None: unfiled."""
    files = schema.files.c
    # Of a batch eval, consolidated_metrics.csv says again what each step's own file does.
    evals = func.count().filter(files.kind == Kind.METRICS, files.target.not_like("%/consolidated_metrics.csv"))
    columns = (files.experiment, func.count(), func.sum(files.size), evals, func.max(files.fetched_at))
    statement = select(*columns).group_by(files.experiment)
    return {experiment: Holding(*found) for experiment, *found in connection.execute(statement)}


def files_of(connection: Connection, experiment: str | None) -> list[FileRecord]:
    """Return the files of an experiment (None: what waits unfiled) by their place at home."""
    statement = select(schema.files).where(schema.files.c.experiment == experiment).order_by(schema.files.c.target)
    return [rows.file_of(row) for row in connection.execute(statement)]


def left_out_of(connection: Connection, experiment: str) -> list[tuple[str, LeftOut]]:
    """Return what is left out of an experiment, as (host, entry)."""
    statement = select(schema.left_out).where(schema.left_out.c.experiment == experiment)
    found = connection.execute(statement.order_by(schema.left_out.c.place))
    return [(row.host, rows.left_out_of(row)) for row in found]


def left_out_elsewhere(connection: Connection) -> list[tuple[str, LeftOut]]:
    """Return what is left out and belongs to no experiment, as (host, entry)."""
    statement = select(schema.left_out).where(schema.left_out.c.experiment.is_(None))
    found = connection.execute(statement.order_by(schema.left_out.c.host, schema.left_out.c.place))
    return [(row.host, rows.left_out_of(row)) for row in found]


def file_at(connection: Connection, target: str) -> FileRecord | None:
    """Return the file that stands at `target` below the data root."""
    row = connection.execute(select(schema.files).where(schema.files.c.target == target)).first()
    return rows.file_of(row) if row else None


def files_from(connection: Connection, place: str) -> list[FileRecord]:
    """Return the files that came from this absolute path on any box."""
    return [rows.file_of(row) for row in connection.execute(select(schema.files).where(schema.files.c.place == place))]


def left_out_at(connection: Connection, place: str) -> list[tuple[str, LeftOut]]:
    """Return why `place`, or the directory above it, is left out, as (host, entry)."""
    above = [place[:i] for i, letter in enumerate(place) if letter == "/" and i]
    table = schema.left_out.c
    statement = select(schema.left_out).where(or_(table.place == place, table.place.in_(above)))
    found = connection.execute(statement)
    return [(row.host, rows.left_out_of(row)) for row in found]


def link_at(connection: Connection, path: str) -> str | None:
    """Return the target of the link that was made at `path` below the data root."""
    return connection.execute(select(schema.links.c.target).where(schema.links.c.path == path)).scalar()


def links(connection: Connection) -> dict[LocalPath, str]:
    """Return the links that were made, with their targets."""
    return {LocalPath.parse(row.path): row.target for row in connection.execute(select(schema.links))}


def journalled(connection: Connection) -> frozenset[str]:
    """Return the names of the temporaries that transfers go on with."""
    return frozenset(connection.execute(select(schema.transfers.c.name)).scalars())


def file_from(connection: Connection, storage: str, place: str, experiment: str | None) -> FileRecord | None:
    """Return the file of an experiment that came from this path; where there are several, the first by its place."""
    table = schema.files.c
    same = (table.storage == storage, table.place == place, table.experiment == experiment)
    row = connection.execute(select(schema.files).where(*same).order_by(table.target)).first()
    return rows.file_of(row) if row else None


def is_under_way(connection: Connection, file: FileRecord) -> bool:
    """Return whether a process is about to publish, move or rename what this record is about, or ended in between."""
    for text in connection.execute(select(schema.intents.c.files)).scalars():
        if file.target in {each.target for each in rows.files_of_intent(text)}:
            return True
        if file.target in rows.moved_from_of_intent(text):
            return True
    renaming = select(schema.experiments.c.renaming).where(schema.experiments.c.id == file.experiment)
    return connection.execute(renaming).scalar() is not None


def intended(connection: Connection) -> list[FileRecord]:
    """Return what was about to be published when a process ended, or is at this moment."""
    texts = connection.execute(select(schema.intents.c.files)).scalars()
    return [file for text in texts for file in rows.files_of_intent(text)]


def all_files(connection: Connection) -> list[FileRecord]:
    """Return all files by their place at home."""
    return [rows.file_of(row) for row in connection.execute(select(schema.files).order_by(schema.files.c.target))]


def files_below(connection: Connection, directory: str) -> list[FileRecord]:
    """Return the files that stand anywhere below `directory`, which is below the data root."""
    statement = select(schema.files).where(_below(schema.files.c.target, directory)).order_by(schema.files.c.target)
    found = [rows.file_of(row) for row in connection.execute(statement)]
    return [file for file in found if str(file.target).startswith(f"{directory}/")]


def files_from_below(connection: Connection, place: str) -> list[FileRecord]:
    """Return the files that came from anywhere below this absolute path on any box."""
    statement = select(schema.files).where(_below(schema.files.c.place, place)).order_by(schema.files.c.place)
    found = [rows.file_of(row) for row in connection.execute(statement)]
    return [file for file in found if file.place.startswith(f"{place}/")]


def left_out_below(connection: Connection, place: str) -> list[tuple[str, LeftOut]]:
    """Return what is left out below this absolute path, as (host, entry)."""
    statement = select(schema.left_out).where(_below(schema.left_out.c.place, place))
    found = connection.execute(statement.order_by(schema.left_out.c.host, schema.left_out.c.place))
    return [(row.host, rows.left_out_of(row)) for row in found if row.place.startswith(f"{place}/")]


def _below(column: Column[str], directory: str) -> ColumnElement[bool]:
    """Select what is below a directory, and every name that is no UTF-8: those are BLOBs, which no range of text holds.

    So the caller has to sieve what comes.
    """
    after_slash = chr(ord("/") + 1)
    return or_(and_(column > f"{directory}/", column < directory + after_slash), func.typeof(column) == "blob")
