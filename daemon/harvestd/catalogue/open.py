"""Opens a catalogue: that of a data root, or an in-memory copy whose changes are discarded.

Detects an unreadable one, and sets it aside without losing it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from sqlalchemy import Connection, Engine, create_engine, select
from sqlalchemy.pool import StaticPool

from harvestd.catalogue import rows, schema, stored_files
from harvestd.catalogue.engine import Database, driver_of, insert, migrate, open_engine, reading, revision, translated
from harvestd.catalogue.repository import Catalogue
from harvestd.catalogue.state_dir import FILE_NAME, make_state_dir
from harvestd.catalogue.stored_records import experiments, links
from harvestd.errors import Fatal, HaltedForSafety
from harvestd.planning.index import PlanningIndex


def open_catalogue(state_dir: Path, data_root_id: str) -> Catalogue:
    """Open the catalogue below `state_dir`, creating or migrating it. Blocks: call it in a thread.

    Raise `Fatal` if it belongs to another data root, has a newer version, is on a network file system or in an unusable
    directory, and `HaltedForSafety` if the file can't be used.
    """
    make_state_dir(state_dir)
    engine = open_engine(state_dir)
    with _disposed_on_failure(engine):
        migrate(engine, state_dir)
        with translated():
            known = _claimed(engine, data_root_id)
        if known != data_root_id:
            raise Fatal(
                f"the catalogue in {state_dir} belongs to another data root (id {known}, this one has {data_root_id})",
                hint="is the right disk mounted? Otherwise give this data root a state_dir of its own",
            )
        return _loaded(engine)


@contextmanager
def _disposed_on_failure(engine: Engine) -> Iterator[None]:
    try:
        yield
    except BaseException:
        engine.dispose()
        raise


def _claimed(engine: Engine, data_root_id: str) -> str:
    """Assign an unassigned catalogue to this data root; return the id of the data root that has it."""
    with engine.begin() as connection:
        statement = insert(schema.meta).values(key="data_root", value=data_root_id).on_conflict_do_nothing()
        connection.execute(statement)
        whose = connection.execute(select(schema.meta.c.value).where(schema.meta.c.key == "data_root"))
        return str(whose.scalar_one())


def open_scratch(state_dir: Path) -> Catalogue:
    """Open an in-memory copy of the catalogue below `state_dir` (empty if there is none); changes stay in it."""
    engine = create_engine("sqlite://", poolclass=StaticPool, connect_args={"check_same_thread": False})
    with _disposed_on_failure(engine):
        with reading(state_dir) as stored:
            if stored is None:
                schema.metadata.create_all(engine)
            else:
                with engine.connect() as copy:
                    driver_of(stored).backup(driver_of(copy))
        return _loaded(engine)


def _loaded(engine: Engine) -> Catalogue:
    with stored_files.own_rows(), translated(), engine.connect() as connection:
        catalogue = Catalogue(Database(engine), load_knowledge(connection))
        catalogue.left_out.load(connection)
        catalogue.restoring.load(connection)
    return catalogue


def load_knowledge(connection: Connection) -> PlanningIndex:
    """Return the index for planners. Files are not loaded yet."""
    knowledge = PlanningIndex()
    for experiment in experiments(connection):
        knowledge.add_experiment(experiment)
    for row in connection.execute(rows.runs()):
        run = rows.run_of(row)
        if run.experiment is not None:
            knowledge.experiment(run.experiment)  # an unknown one is an error
        knowledge.add_run(run)
    knowledge.mark_unloaded(stored_files.sections(connection), stored_files.storages(connection))
    for row in connection.execute(rows.eval_links()):
        knowledge.add_eval_link(rows.eval_link_of(row))
    for path, target in links(connection).items():
        knowledge.add_link(path, target)
    for row in connection.execute(rows.requests()):
        knowledge.add_request(rows.request_of(row))
    return knowledge


_FINE = "ok"
_BESIDE = ("", "-wal", "-shm")
"""Suffixes of the files of one SQLite database; its log must never be used with another database."""


def damage_of(state_dir: Path) -> str | None:
    """Return a description of the damage to the file below `state_dir`; None if it is intact or absent. Blocks."""
    if not (state_dir / FILE_NAME).exists():
        return None
    engine = open_engine(state_dir)
    try:
        with translated(), engine.connect() as connection:
            found = str(connection.exec_driver_sql("PRAGMA quick_check(1)").scalar())
            if revision(engine) is None:
                return "it holds no tables"
    except HaltedForSafety as error:
        return str(error)
    finally:
        engine.dispose()
    return None if found == _FINE else f"its file is damaged: {found}"


def move_aside(state_dir: Path) -> Path:
    """Rename the catalogue below `state_dir`; return its new path. The caller holds the data root's lock."""
    places = (state_dir / f"{FILE_NAME}.damaged-{number}" for number in count(1))
    aside = next(place for place in places if not place.exists())
    for end in reversed(_BESIDE):
        part = state_dir / (FILE_NAME + end)
        if part.exists():
            part.rename(f"{aside}{end}")
    return aside
