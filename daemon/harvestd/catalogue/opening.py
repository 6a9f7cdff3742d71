"""Opening a catalogue: the one of a data root, made or migrated, or a copy in memory that nothing is kept of."""

import sqlite3
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, select
from sqlalchemy.dialects.sqlite import insert
from sqlalchemy.pool import StaticPool

from harvestd.catalogue import rows, schema
from harvestd.catalogue.catalogue import Catalogue
from harvestd.catalogue.database import Database, migrate, open_engine, reading
from harvestd.convention.knowledge import Knowledge
from harvestd.convention.paths import LocalPath
from harvestd.errors import Fatal


def open_catalogue(state_dir: Path, data_root_id: str) -> Catalogue:
    """Open the catalogue below `state_dir`, making or migrating it. Blocks: call it in a thread.

    Raises `Fatal` when it belongs to another data root, is of a newer version or lies on a network file system, and
    `HaltedForSafety` when the file can't be used.
    """
    state_dir.mkdir(parents=True, exist_ok=True)
    engine = open_engine(state_dir)
    migrate(engine, state_dir)
    with engine.begin() as connection:
        statement = insert(schema.meta).values(key="data_root", value=data_root_id).on_conflict_do_nothing()
        connection.execute(statement)
        known = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "data_root")).scalar_one()
    if known != data_root_id:
        raise Fatal(
            f"the catalogue in {state_dir} belongs to another data root (id {known}, this one has {data_root_id})",
            hint="is the right disk mounted? Otherwise give this data root a state_dir of its own",
        )
    return _loaded(engine)


def open_scratch(state_dir: Path) -> Catalogue:
    """Open a copy in memory of the catalogue below `state_dir` (empty where there is none): changes stay in it."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    with reading(state_dir) as stored:
        if stored is None:
            schema.metadata.create_all(engine)
        else:
            with engine.connect() as copy:
                _driver(stored).backup(_driver(copy))
    return _loaded(engine)


def _driver(connection: Connection) -> sqlite3.Connection:
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError("the catalogue is an SQLite file")
    return driver


def _loaded(engine: Engine) -> Catalogue:
    with engine.connect() as connection:
        catalogue = Catalogue(Database(engine), load_knowledge(connection))
        catalogue.remember_left_out(connection)
    return catalogue


def load_knowledge(connection: Connection) -> Knowledge:
    """Read everything that planners ask for."""
    knowledge = Knowledge()
    for row in connection.execute(select(schema.experiments)):
        knowledge.learn_experiment(rows.experiment_of(row))
    for row in connection.execute(select(schema.runs)):
        knowledge.learn_run(rows.run_of(row))
    for row in connection.execute(select(schema.files)):
        knowledge.learn_file(rows.file_of(row))
    for row in connection.execute(select(schema.eval_configs)):
        knowledge.learn_eval_link(rows.eval_link_of(row))
    for row in connection.execute(select(schema.links)):
        knowledge.learn_link(LocalPath.parse(row.path), row.target)
    return knowledge
