"""Read access to the catalogue for commands, with or without a running daemon; and two small deletions."""

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Column, ColumnElement, Connection, Row, and_, create_engine, delete, func, or_, select

from harvestd.catalogue import rows, schema, stored_files, stored_records
from harvestd.catalogue.engine import open_engine, reading, translated, writing
from harvestd.catalogue.entries import VerdictRecord
from harvestd.catalogue.hosts import forget_devices
from harvestd.catalogue.journal import open_intents
from harvestd.catalogue.state_dir import FILE_NAME
from harvestd.convention.kinds import Kind
from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.structs import Immutable
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord
from harvestd.planning.requests import Request


@contextmanager
def questions(state_dir: Path) -> Iterator[Connection]:
    """Open the catalogue below `state_dir` for queries; provide an empty one if none was written yet.

    Raise `Fatal` for another schema, `HaltedForSafety` if the file can't be read.
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
    """Provide the connection with a present snapshot, which is released after the body.

    A read transaction that stays open sees the rows of its beginning, and prevents the checkpoint of a daemon's log.
    """
    connection.rollback()
    try:
        yield connection
    finally:
        connection.rollback()


def forget_key(state_dir: Path, identity: str) -> bool:
    """Delete the key pinned under `identity`, and its devices; return whether there was a key."""
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
    """Delete the devices of a host's trees, so that its next verdict records new ones; return whether any existed."""
    if not (state_dir / FILE_NAME).exists():
        return False
    engine = open_engine(state_dir)
    try:
        with translated(), writing(engine) as connection:
            return forget_devices(connection, identity)
    finally:
        engine.dispose()


def hosts(connection: Connection) -> Sequence[Row[Any]]:
    """Return the rows of all hosts ever seen."""
    return connection.execute(select(schema.hosts).where(schema.hosts.c.listed).order_by(schema.hosts.c.name)).all()


def runs(connection: Connection) -> list[RunRecord]:
    """Return all runs, newest first."""
    statement = rows.runs().order_by(schema.runs.c.name.desc(), schema.runs.c.host)
    return [rows.run_of(row) for row in connection.execute(statement)]


def experiments(connection: Connection) -> dict[str, ExperimentRecord]:
    """Return all experiments by id."""
    return {each.id: each for each in stored_records.experiments(connection)}


def requests(connection: Connection) -> list[Request]:
    """Return all requests by hand, oldest first."""
    return [rows.request_of(row) for row in connection.execute(rows.requests().order_by(schema.requests.c.id))]


def verdicts(connection: Connection) -> dict[str, VerdictRecord]:
    """Return the newest verdict on each host that has one, by identity."""
    found = {row.identity: _verdict(row) for row in connection.execute(rows.verdicts())}
    return {identity: record for identity, record in found.items() if record is not None}


def verdict_on(connection: Connection, identity: str) -> VerdictRecord | None:
    """Return the newest verdict on one host; None if there is none."""
    found = rows.verdicts().join(schema.hosts).where(schema.hosts.c.identity == identity)
    row = connection.execute(found).first()
    return _verdict(row) if row else None


def _verdict(row: Row[Any]) -> VerdictRecord | None:
    """Return the verdict in a row; None for one in another harvestd's format, since unknown is not safe."""
    try:
        return rows.verdict_record_of(row)
    except (ValueError, KeyError, TypeError):
        return None


def request(connection: Connection, number: int) -> Request | None:
    """Return the request with this id; None if there is none, or if it was deleted."""
    row = connection.execute(rows.requests().where(schema.requests.c.id == number)).first()
    return rows.request_of(row) if row else None


class Holding(Immutable):
    """The local content of an experiment."""

    files: int
    size: int
    evals: int = 0
    """Leaves with a metrics.csv."""
    newest: float | None = None
    """When its newest file was fetched, in Unix time."""


def holdings(connection: Connection) -> dict[str | None, Holding]:
    """Return the local content by experiment; None: `_unfiled`."""
    files = schema.files.c
    # The consolidated_metrics.csv of a batch eval repeats the content of each step's own file.
    evals = func.count().filter(files.kind == Kind.METRICS, files.path.not_like("%/consolidated_metrics.csv"))
    columns = (files.experiment_id, func.count(), func.sum(files.size), evals, func.max(files.fetched_at))
    statement = select(*columns).group_by(files.experiment_id)
    return {experiment: Holding(*found) for experiment, *found in connection.execute(statement)}


class LeftOutSum(Immutable):
    """All that one reason leaves out of what a host shows."""

    reason: str
    entries: int
    size: int | None
    """None where the size of a part is not known."""
    example: str
    """The remote path of one entry."""
    gone: int
    """How many of the entries are not on the host any more."""


def holding_from(connection: Connection, host: str) -> Holding:
    """Return what is here of a host, by its name."""
    files = schema.files.c
    columns = (func.count(), func.coalesce(func.sum(files.size), 0), func.max(files.fetched_at))
    number, size, newest = connection.execute(select(*columns).where(files.host == host)).one()
    return Holding(number, size, newest=newest)


def left_out_from(connection: Connection, host: str) -> list[LeftOutSum]:
    """Return what is left out of a host by reason, the largest first."""
    return _left_out_by_reason(connection, schema.left_out.c.host == host)


def left_out_by_reason(connection: Connection, experiment: str) -> list[LeftOutSum]:
    """Return what is left out of an experiment by reason, the largest first."""
    return _left_out_by_reason(connection, schema.left_out.c.experiment_id == experiment)


def _left_out_by_reason(connection: Connection, which: ColumnElement[bool]) -> list[LeftOutSum]:
    table = schema.left_out.c
    total = func.count().filter(table.size.is_(None))
    columns = (table.reason, func.sum(table.entries), func.sum(table.size), func.min(table.place))
    statement = select(*columns, func.count(table.gone_at), total).where(which).group_by(table.reason)
    found = [
        LeftOutSum(reason, entries, None if unknown else size, place, gone)
        for reason, entries, size, place, gone, unknown in connection.execute(statement)
    ]
    return sorted(found, key=lambda each: -(each.size or 0))


def first_files(connection: Connection, experiment: str, most: int) -> list[FileRecord]:
    """Return the first `most` files of an experiment by local path."""
    wanted = rows.files().where(schema.files.c.experiment_id == experiment).order_by(schema.files.c.path).limit(most)
    return [rows.file_of(row) for row in connection.execute(wanted)]


def files_of(connection: Connection, experiment: str | None) -> list[FileRecord]:
    """Return the files of an experiment (None: those in `_unfiled`) ordered by local path."""
    return stored_files.files_of(connection, experiment)


def files_of_kinds(connection: Connection, experiment: str, kinds: Collection[Kind]) -> list[FileRecord]:
    """Return the files of an experiment that are of these kinds, ordered by local path."""
    table = schema.files.c
    wanted = rows.files().where(table.experiment_id == experiment, table.kind.in_(sorted(kinds)))
    return [rows.file_of(row) for row in connection.execute(wanted.order_by(table.path))]


class LeftOutTotal(Immutable):
    """What is left out of an experiment."""

    entries: int = 0
    size: int = 0
    """Bytes, of the entries whose size is known."""
    unknown: int = 0
    """Lines whose size is not known."""


def left_out_totals(connection: Connection) -> dict[str | None, LeftOutTotal]:
    """Return how much is left out, by experiment; None: of what belongs to none."""
    table = schema.left_out.c
    sizes = func.coalesce(func.sum(table.size), 0)
    columns = (table.experiment_id, func.sum(table.entries), sizes, func.count().filter(table.size.is_(None)))
    found = connection.execute(select(*columns).group_by(table.experiment_id))
    return {experiment: LeftOutTotal(*totals) for experiment, *totals in found}


def left_out_of(connection: Connection, experiment: str) -> list[tuple[str, LeftOut]]:
    """Return what is left out of an experiment, as (host, entry)."""
    statement = select(schema.left_out).where(schema.left_out.c.experiment_id == experiment)
    found = connection.execute(statement.order_by(schema.left_out.c.place))
    return [(row.host, rows.left_out_of(row)) for row in found]


def left_out_elsewhere(connection: Connection) -> list[tuple[str, LeftOut]]:
    """Return what is left out and belongs to no experiment, as (host, entry)."""
    statement = select(schema.left_out).where(schema.left_out.c.experiment_id.is_(None))
    found = connection.execute(statement.order_by(schema.left_out.c.host, schema.left_out.c.place))
    return [(row.host, rows.left_out_of(row)) for row in found]


def file_at(connection: Connection, target: str) -> FileRecord | None:
    """Return the file at `target` below the data root; None if there is none."""
    try:
        return stored_files.file_at(connection, LocalPath.parse(target))
    except RejectedPath:
        return None


def files_from(connection: Connection, place: str) -> list[FileRecord]:
    """Return the files that came from this absolute path on any host."""
    return [rows.file_of(row) for row in connection.execute(rows.files().where(schema.files.c.place == place))]


def left_out_at(connection: Connection, place: str) -> list[tuple[str, LeftOut]]:
    """Return the lines that leave out `place` or a directory above it, as (host, entry)."""
    above = [place[:i] for i, letter in enumerate(place) if letter == "/" and i]
    table = schema.left_out.c
    statement = select(schema.left_out).where(or_(table.place == place, table.place.in_(above)))
    found = connection.execute(statement)
    return [(row.host, rows.left_out_of(row)) for row in found]


def link_at(connection: Connection, path: str) -> str | None:
    """Return the target of the local link at `path` below the data root; None if there is none."""
    return next((target for each, target in links(connection).items() if str(each) == path), None)


def links(connection: Connection) -> dict[LocalPath, str]:
    """Return the local links with their targets."""
    return stored_records.links(connection)


def journalled(connection: Connection) -> frozenset[str]:
    """Return the names of the temporaries that transfers resume."""
    return frozenset(connection.execute(select(schema.transfers.c.name)).scalars())


def file_from(connection: Connection, storage: str, place: str, experiment: str | None) -> FileRecord | None:
    """Return the file of an experiment that came from this path; of several, the first by local path."""
    table = schema.files.c
    same = (schema.volumes.c.storage == storage, table.place == place, table.experiment_id == experiment)
    row = connection.execute(rows.files().join(schema.volumes).where(*same).order_by(table.path)).first()
    return rows.file_of(row) if row else None


def is_under_way(connection: Connection, file: FileRecord) -> bool:
    """Return whether a process is publishing, moving or renaming this record's file, or was interrupted doing so."""
    table, experiments = schema.intent_files.c, schema.experiments.c
    intended = or_(table.target == str(file.target), table.moved_from == str(file.target))
    if connection.execute(select(table.number).where(intended)).first() is not None:
        return True
    renaming = select(experiments.renaming).where(experiments.id == file.experiment)
    return connection.execute(renaming).scalar() is not None


def intended(connection: Connection) -> list[FileRecord]:
    """Return the files that are about to be published, or were when a process ended."""
    return [file for intent in open_intents(connection) for file in intent.files]


def all_files(connection: Connection) -> list[FileRecord]:
    """Return all files ordered by their experiment's directory and by path; those of no experiment are last."""
    experiments = connection.execute(select(schema.experiments.c.id).order_by(schema.experiments.c.directory))
    return [file for each in (*experiments.scalars(), None) for file in stored_files.files_of(connection, each)]


def files_below(connection: Connection, directory: str) -> list[FileRecord]:
    """Return the files at any depth below `directory`, which is relative to the data root, ordered by local path."""
    top, _, below = directory.partition("/")
    files, experiments = schema.files.c, schema.experiments.c
    inside = [experiments.directory == top, *([_below(files.path, below)] if below else [])]
    filed = rows.files().join(schema.experiments).where(*inside)
    unfiled = rows.files().where(files.experiment_id.is_(None), _below(files.path, directory))
    found = [rows.file_of(row) for statement in (filed, unfiled) for row in connection.execute(statement)]
    return sorted(
        (file for file in found if str(file.target).startswith(f"{directory}/")), key=lambda each: each.target
    )


def files_from_below(connection: Connection, place: str) -> list[FileRecord]:
    """Return the files that came from below this absolute path on any host."""
    statement = rows.files().where(_below(schema.files.c.place, place)).order_by(schema.files.c.place)
    found = [rows.file_of(row) for row in connection.execute(statement)]
    return [file for file in found if file.place.startswith(f"{place}/")]


def left_out_below(connection: Connection, place: str) -> list[tuple[str, LeftOut]]:
    """Return what is left out below this absolute path, as (host, entry)."""
    statement = select(schema.left_out).where(_below(schema.left_out.c.place, place))
    found = connection.execute(statement.order_by(schema.left_out.c.host, schema.left_out.c.place))
    return [(row.host, rows.left_out_of(row)) for row in found if row.place.startswith(f"{place}/")]


def _below(column: Column[str], directory: str) -> ColumnElement[bool]:
    """Select what is below a directory, and every name that is not UTF-8: a BLOB is in no range of text.

    So the caller must filter the result.
    """
    after_slash = chr(ord("/") + 1)
    return or_(and_(column > f"{directory}/", column < directory + after_slash), func.typeof(column) == "blob")
