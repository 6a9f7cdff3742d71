"""Past experiments in a catalogue: copies of the rows of what is there, as of hosts that are gone, by bulk SQL."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sqlalchemy import ColumnElement, Connection, Insert, Table, func, insert, literal, select

from harvestd.catalogue import schema
from harvestd.catalogue.engine import open_engine
from harvestd.catalogue.stored_records import volume_ids


def add_past_experiments(home: Path, numbers: Sequence[int]) -> int:
    """Add an experiment for each of `numbers` to the data root in `home`, where one experiment was fetched.

    Return how many files each of them has. Their directories stay empty: files of past experiments are not read.
    """
    engine = open_engine(home / ".harvestd")
    try:
        with engine.begin() as connection:
            fetched = select(schema.experiments).where(schema.experiments.c.moved_to.is_(None))
            template = connection.execute(fetched).one()
            for number in numbers:
                directory = f"past_{number:06}"
                _copy(connection, template.id, number, directory)
                (home / directory).mkdir()
            files = select(func.count()).select_from(schema.files).where(schema.files.c.experiment_id == template.id)
            return int(connection.execute(files).scalar_one())
    finally:
        engine.dispose()


def _copy(connection: Connection, experiment: str, number: int, after: str) -> None:
    """Copy the rows of an experiment for one in the directory `after`."""
    copy = f"{number:08x}{experiment[8:]}"
    volume = volume_ids(connection, [f"past-{number}"])[f"past-{number}"]
    gone: dict[str, ColumnElement[Any]] = {
        "volume_id": literal(volume),
        "host": literal(f"gone-{number}"),
        "experiment_id": literal(copy),
    }
    experiments, runs, files = schema.experiments, schema.runs, schema.files
    own: dict[str, ColumnElement[Any]] = {
        "id": literal(copy),
        "directory": literal(after),
        "claimed": literal(after),
        "moved_to": literal(after),
    }
    connection.execute(_copied(experiments, experiments.c.id == experiment, own))
    own = {"id": literal(f"{number:08x}") + func.substr(runs.c.id, 9)}
    connection.execute(_copied(runs, runs.c.experiment_id == experiment, gone | own))
    connection.execute(_copied(files, files.c.experiment_id == experiment, gone))


def _copied(table: Table, which: ColumnElement[bool], changed: Mapping[str, ColumnElement[Any]]) -> Insert:
    """Return the statement that inserts rows of a table once more, with some columns changed."""
    # A number that the database assigns is not copied.
    copied = [column for column in table.columns if column.name != "id" or "id" in changed]
    columns = [changed.get(column.name, column) for column in copied]
    return insert(table).from_select([column.name for column in copied], select(*columns).where(which))
