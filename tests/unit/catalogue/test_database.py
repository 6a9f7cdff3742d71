"""One SQLite file: shared transactions, migrations, and refusing what can't be trusted."""

import sqlite3
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, closing, nullcontext
from functools import partial
from pathlib import Path

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from anyio.abc import TaskGroup
from sqlalchemy import Connection, Engine, event, text

from harvestd.catalogue import engine as database_module
from harvestd.catalogue import schema
from harvestd.catalogue.engine import Database, open_engine, reading
from harvestd.catalogue.open import open_catalogue, open_scratch
from harvestd.catalogue.state_dir import FILE_NAME, InconsistentRows
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.scan.snapshot import Version
from harvestd.errors import Fatal, HaltedForSafety
from harvestd.planning.records import ExperimentRecord, RunRecord

DEADLINE = 10.0
ONE = Part("x", "test")
EXPERIMENT = ExperimentRecord("e1", ExperimentName(ONE, ONE, ONE, ONE, ONE))
RUN = RunRecord("r1", "fs-1", "/data/run_1", "gpu-a", "run_1", ConfigFacts(), Version(1, 2), experiment="e1")


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    """Provide a database with one table."""
    engine = open_engine(tmp_path)
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE t (x INTEGER PRIMARY KEY)"))
    yield engine
    engine.dispose()


def adding(number: int) -> database_module.Change:
    """Make a change that adds one row."""
    return lambda connection: connection.execute(text("INSERT INTO t VALUES (:x)"), {"x": number})


def numbers(engine: Engine) -> list[int]:
    """Return what is in the table."""
    with engine.connect() as connection:
        return list(connection.execute(text("SELECT x FROM t ORDER BY x")).scalars())


@asynccontextmanager
async def while_committing(base: Database) -> AsyncIterator[TaskGroup]:
    """Hold a transaction that adds a 0 in its thread until the block ends: whoever writes meanwhile waits for it."""
    begun, go_on = anyio.Event(), threading.Event()

    def held(connection: Connection) -> None:
        adding(0)(connection)
        anyio.from_thread.run_sync(begun.set)
        go_on.wait(DEADLINE)

    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(base.write, held)
            await begun.wait()
            try:
                yield tasks
                await anyio.wait_all_tasks_blocked()
            finally:
                go_on.set()


@pytest.mark.anyio
async def test_concurrent_writers_share_transactions(engine: Engine) -> None:
    """Many writers at once need two commits: the first one's own, and one for all who came meanwhile."""
    commits = 0

    @event.listens_for(engine, "commit")
    def _count(_connection: Connection) -> None:
        nonlocal commits
        commits += 1

    base = Database(engine)
    async with while_committing(base) as tasks:
        for number in range(1, 100):
            tasks.start_soon(base.write, adding(number))
    assert numbers(engine) == list(range(100))
    assert commits == 2


@pytest.mark.anyio
async def test_a_write_is_on_disk_when_it_returns(engine: Engine, tmp_path: Path) -> None:
    """Another process sees the row at once, and the file is kept with full syncs in a write-ahead log."""
    await Database(engine).write(adding(1))
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as other:
        assert other.execute("SELECT x FROM t").fetchall() == [(1,)]
        assert other.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    with engine.connect() as connection:
        assert connection.exec_driver_sql("PRAGMA synchronous").scalar() == 2


@pytest.mark.anyio
async def test_a_failing_transaction_fails_for_all_who_share_it_and_for_nobody_else(engine: Engine) -> None:
    """Nobody takes a change for done that was rolled back with another's; the next transaction works."""
    base = Database(engine)
    failed: list[int] = []

    async def write(number: int, change: database_module.Change) -> None:
        try:
            await base.write(change)
        except HaltedForSafety:
            failed.append(number)

    async with while_committing(base) as tasks:
        tasks.start_soon(write, 1, adding(1))
        tasks.start_soon(write, 2, lambda connection: connection.execute(text("INSERT INTO nowhere VALUES (1)")))
        tasks.start_soon(write, 3, adding(3))
    assert sorted(failed) == [1, 2, 3]
    assert numbers(engine) == [0]
    await base.write(adding(4))
    assert numbers(engine) == [0, 4]


@pytest.mark.anyio
@pytest.mark.parametrize("refused", ["a bug", "no UTF-8", "a row that is there already"])
async def test_a_change_that_can_not_be_made_fails_alone(engine: Engine, refused: str) -> None:
    """An error that is not about the file reaches its own writer; those who shared the transaction are on disk."""
    base = Database(engine)
    failed: list[tuple[int, str]] = []

    def broken(connection: Connection) -> None:
        adding(7)(connection)
        match refused:
            case "a bug":
                raise ZeroDivisionError
            case "no UTF-8":
                connection.execute(text("INSERT INTO t VALUES (:x)"), {"x": "\udcff"})
            case _:
                adding(0)(connection)

    async def write(number: int, change: database_module.Change) -> None:
        try:
            await base.write(change)
        except (ZeroDivisionError, UnicodeEncodeError, InconsistentRows) as error:
            failed.append((number, type(error).__name__))

    async with while_committing(base) as tasks:
        tasks.start_soon(write, 1, adding(1))
        tasks.start_soon(write, 2, broken)
        tasks.start_soon(write, 3, adding(3))
    kinds = {"a bug": "ZeroDivisionError", "no UTF-8": "UnicodeEncodeError"}
    assert failed == [(2, kinds.get(refused, "InconsistentRows"))]
    assert numbers(engine) == [0, 1, 3]
    await base.write(adding(4))
    assert numbers(engine) == [0, 1, 3, 4]


@pytest.mark.anyio
async def test_a_cancelled_writer_takes_nobody_with_it(engine: Engine) -> None:
    """Whoever is cancelled, before its turn or in it: all changes are on disk when their writers go on."""
    base = Database(engine)
    written: list[int] = []

    async def write(number: int) -> None:
        await base.write(adding(number))
        written.append(number)

    async def write_cancelled(number: int, scope: anyio.CancelScope) -> None:
        with scope:
            await write(number)

    early, late = anyio.CancelScope(), anyio.CancelScope()
    early.cancel()
    async with while_committing(base) as tasks:
        tasks.start_soon(write_cancelled, 1, early)
        tasks.start_soon(write_cancelled, 2, late)
        tasks.start_soon(write, 3)
        await anyio.wait_all_tasks_blocked()
        late.cancel()
    assert numbers(engine) == [0, 1, 2, 3]
    assert sorted(written) == [1, 2, 3]


@pytest.mark.anyio
async def test_a_cancelled_committer_takes_nobody_with_it(engine: Engine) -> None:
    """When the one who is about to commit for all is cancelled, the others' changes are not lost in silence."""
    base = Database(engine)
    scope = anyio.CancelScope()

    async def write_cancelled() -> None:
        with scope:
            await base.write(adding(1))

    async def cancel() -> None:
        scope.cancel()

    with anyio.fail_after(DEADLINE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(write_cancelled)
            tasks.start_soon(base.write, adding(2))
            tasks.start_soon(cancel)
    assert numbers(engine) == [1, 2]


@pytest.mark.anyio
async def test_a_commit_that_no_thread_can_begin_loses_no_other_change(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the writer that would have made it fails; the others' changes are in the next transaction."""
    base, failures = Database(engine), list[Exception]()
    real = anyio.to_thread.run_sync

    async def refused(*_arguments: object) -> None:
        monkeypatch.setattr(anyio.to_thread, "run_sync", real)
        await anyio.sleep(0.05)
        raise RuntimeError("can't start new thread")

    async def write(number: int) -> None:
        try:
            await base.write(adding(number))
        except RuntimeError as error:
            failures.append(error)

    async with while_committing(base) as tasks:
        for number in range(1, 4):
            tasks.start_soon(write, number)
        await anyio.lowlevel.checkpoint()
        monkeypatch.setattr(anyio.to_thread, "run_sync", refused)
    assert len(failures) == 1
    assert len(set(numbers(engine)) & {1, 2, 3}) == 2


@pytest.mark.anyio
@pytest.mark.parametrize("begins", [True, False])
async def test_a_change_whose_thread_is_lost_is_made_once_or_fails(
    engine: Engine, monkeypatch: pytest.MonkeyPatch, *, begins: bool
) -> None:
    """An exception while the thread works does not hide its outcome; one before it works leaves it nothing to do."""
    base = Database(engine)
    real, given = anyio.to_thread.run_sync, list[Callable[[], object]]()

    async def lost(commit: Callable[..., object], *arguments: object) -> None:
        monkeypatch.setattr(anyio.to_thread, "run_sync", real)
        if begins:
            await real(commit, *arguments)
        given.append(partial(commit, *arguments))
        raise RuntimeError("the wait for the thread was broken off")

    monkeypatch.setattr(anyio.to_thread, "run_sync", lost)
    with nullcontext() if begins else pytest.raises(RuntimeError):
        await base.write(adding(1))
    given[0]()
    assert numbers(engine) == ([1] if begins else [])
    await base.write(adding(2))
    assert numbers(engine)[-1] == 2


def test_the_migrations_make_exactly_the_tables_of_the_schema(migrated: Connection) -> None:
    """What Alembic finds in a migrated file is what the code believes in: no column, index or constraint differs."""
    context = MigrationContext.configure(migrated, opts={"compare_type": True})
    assert compare_metadata(context, schema.metadata) == []
    assert context.get_current_revision() == schema.HEAD


def test_a_scratch_catalogue_has_the_tables_of_a_real_one(tmp_path: Path) -> None:
    """What a plan is made on knows all that a pass would write."""
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue, catalogue.database.engine.connect() as connection:
        made = {table for table in _tables(connection) if table[0] != "alembic_version"}
    with closing(open_scratch(tmp_path / "none")) as scratch, scratch.database.engine.connect() as connection:
        assert _tables(connection) == made


def test_opening_again_migrates_nothing(tmp_path: Path) -> None:
    """A catalogue at the newest schema is left as it is, without a copy beside it."""
    for _ in range(2):
        open_catalogue(tmp_path, "root-1").close()
    assert not list(tmp_path.glob("*.before-*"))


def _set_revision(directory: Path, revision: str) -> None:
    with closing(sqlite3.connect(directory / FILE_NAME)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = ?", (revision,))


def test_a_newer_schema_is_refused(tmp_path: Path) -> None:
    """A catalogue that a newer harvestd wrote is not touched, neither for work nor for questions."""
    open_catalogue(tmp_path, "root-1").close()
    _set_revision(tmp_path, "9999")
    before = (tmp_path / FILE_NAME).read_bytes()
    with pytest.raises(Fatal, match="newer"):
        open_catalogue(tmp_path, "root-1")
    with pytest.raises(Fatal, match="9999"), reading(tmp_path):
        pass
    with pytest.raises(Fatal, match="9999"):
        open_scratch(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == before


def test_an_unknown_older_schema_is_refused(tmp_path: Path) -> None:
    """A revision that no harvestd ever had ends the start with a sentence, not with a traceback."""
    open_catalogue(tmp_path, "root-1").close()
    _set_revision(tmp_path, "0000")
    with pytest.raises(Fatal, match="no harvestd ever wrote"):
        open_catalogue(tmp_path, "root-1")


def test_an_older_catalogue_is_copied_before_it_is_migrated(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The copy holds what stood in the write-ahead log as well, also while somebody reads."""
    open_catalogue(tmp_path, "root-1").close()
    engine = open_engine(tmp_path)
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM links").fetchone() == (0,)
        with engine.begin() as connection:
            connection.execute(text("INSERT INTO links (path, target) VALUES ('a', 'b')"))
            connection.execute(text("UPDATE alembic_version SET version_num = '0000'"))
        migrated: list[Path] = []
        monkeypatch.setattr("alembic.command.upgrade", lambda *_: migrated.append(tmp_path))
        database_module.migrate(engine, tmp_path)
    engine.dispose()
    assert migrated
    with closing(sqlite3.connect(tmp_path / f"{FILE_NAME}.before-{schema.HEAD}")) as copy:
        assert copy.execute("SELECT path, target FROM links").fetchall() == [("a", "b")]
        assert copy.execute("SELECT version_num FROM alembic_version").fetchall() == [("0000",)]


@pytest.fixture
def migrated(tmp_path: Path) -> Iterator[Connection]:
    """Provide a catalogue that came to its schema step by step, by the migrations alone."""
    (tmp_path / "stepwise").mkdir()
    engine = open_engine(tmp_path / "stepwise")
    database_module.upgrade(engine, tmp_path / "stepwise", found="none")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def _tables(connection: Connection) -> set[tuple[str, str]]:
    """Return every table and index as (name, its SQL), without regard to how it is laid out."""
    found = connection.execute(text("SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"))
    return {(row.name, " ".join(row.sql.split())) for row in found}


def test_a_fresh_catalogue_is_what_the_migrations_lead_to(tmp_path: Path, migrated: Connection) -> None:
    """Whether made at once or step by step, tables, indexes and the noted revision are the same."""
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue, catalogue.database.engine.connect() as fresh:
        assert _tables(fresh) == _tables(migrated)
        revisions = "SELECT version_num FROM alembic_version"
        assert fresh.execute(text(revisions)).all() == migrated.execute(text(revisions)).all() == [(schema.HEAD,)]


def test_a_start_that_fails_leaves_no_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tables come all or none: a start that died in between begins again from an empty file."""
    monkeypatch.setattr(database_module, "VERSION_TABLE", "no SQL")
    with pytest.raises(HaltedForSafety, match="no"):
        open_catalogue(tmp_path, "root-1")
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master").fetchall() == []
    monkeypatch.undo()
    open_catalogue(tmp_path, "root-1").close()


def test_a_migration_that_fails_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a step did before it died is undone with it, and the noted revision is the old one."""
    open_catalogue(tmp_path, "root-1").close()
    _set_revision(tmp_path, "0000")

    def half(config: Config, _revision: str) -> None:
        config.attributes["connection"].execute(text("DROP TABLE hosts"))
        raise KeyboardInterrupt

    monkeypatch.setattr("alembic.command.upgrade", half)
    with pytest.raises(KeyboardInterrupt):
        open_catalogue(tmp_path, "root-1")
    _set_revision(tmp_path, schema.HEAD)
    open_catalogue(tmp_path, "root-1").close()


def test_the_catalogue_of_another_data_root_is_refused(tmp_path: Path) -> None:
    """A disk that was not mounted must not be taken for one that lost everything."""
    open_catalogue(tmp_path, "root-1").close()
    with pytest.raises(Fatal, match="belongs to another data root"):
        open_catalogue(tmp_path, "root-2")
    open_catalogue(tmp_path, "root-1").close()


MOUNTS = """\
21 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 21 0:40 / {mount} rw,relatime shared:5 - {kind} server:/export rw
"""


@pytest.mark.parametrize(
    ("kind", "refused"),
    [("nfs4", True), ("cifs", True), ("fuse.sshfs", True), ("ext4", False), ("fuse.mergerfs", False)],
)
def test_a_network_file_system_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    kind: str,
    refused: bool,  # noqa: FBT001 - a table's column
) -> None:
    """SQLite's locks can't be trusted there; the hint says which setting leads elsewhere."""
    directory = tmp_path / "with space"
    directory.mkdir()
    table = MOUNTS.format(mount=str(directory).replace(" ", "\\040"), kind=kind)
    read = Path.read_text

    def read_text(path: Path, *arguments: str, **options: str) -> str:
        return table if str(path) == "/proc/self/mountinfo" else read(path, *arguments, **options)

    monkeypatch.setattr(Path, "read_text", read_text)
    if refused:
        with pytest.raises(Fatal, match="network file system") as caught:
            open_catalogue(directory, "root-1")
        assert "state_dir" in caught.value.hint
        assert list(directory.iterdir()) == []
    else:
        open_catalogue(directory, "root-1").close()


def test_a_mount_over_a_mount_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two mounts at one place the later one is what is seen there; a longer name alone is no parent."""
    table = MOUNTS.format(mount=tmp_path, kind="nfs4") + f"31 30 8:2 / {tmp_path} rw - xfs /dev/sdb rw\n"
    table += f"32 21 0:41 / {tmp_path}/be rw - nfs4 server:/other rw\n"
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: table)
    assert database_module.filesystem_of(tmp_path) == "xfs"
    assert database_module.filesystem_of(tmp_path / "below") == "xfs"


@pytest.mark.parametrize("content", [b"garbage" * 1000, b"SQLite format 3\0" + b"\xff" * 5000])
def test_a_damaged_file_halts_and_is_not_overwritten(tmp_path: Path, content: bytes) -> None:
    """A file that is no database is told as such, to whoever opens it, and stays for a person to look at."""
    (tmp_path / FILE_NAME).write_bytes(content)
    with pytest.raises(HaltedForSafety):
        open_catalogue(tmp_path, "root-1")
    with pytest.raises(HaltedForSafety), reading(tmp_path):
        pass
    with pytest.raises(HaltedForSafety):
        open_scratch(tmp_path)
    assert (tmp_path / FILE_NAME).read_bytes() == content


@pytest.mark.parametrize(
    "damage",
    [
        "INSERT INTO links (path, target) VALUES ('../../etc', 'x')",
        "INSERT INTO experiments VALUES ('e', 'd', 'd', '{}', 0, NULL, 0, NULL, 0)",
        "INSERT INTO experiments VALUES ('e', 'd', 'd', 'no json', 0, NULL, 0, NULL, 0)",
        "INSERT INTO runs VALUES ('r', 1, 'p', 'h', 'n', NULL, '{}', NULL, NULL, 0)",
    ],
)
def test_a_row_that_nobody_wrote_halts(tmp_path: Path, damage: str) -> None:
    """A row that makes no sense is not worked with, and never a path that leads out of the root."""
    open_catalogue(tmp_path, "root-1").close()
    with closing(sqlite3.connect(tmp_path / FILE_NAME)) as connection, connection:
        connection.execute(damage)
    with pytest.raises(HaltedForSafety, match="did not write"):
        open_catalogue(tmp_path, "root-1")


@pytest.mark.anyio
async def test_a_scratch_copy_changes_nothing(tmp_path: Path) -> None:
    """What is known is there, what is added stays in memory; also where no catalogue was ever made."""
    with closing(await anyio.to_thread.run_sync(open_catalogue, tmp_path, "root-1")) as catalogue:
        await catalogue.left_out.save("gpu-a", "i-gpu-a", {})
        with closing(open_scratch(tmp_path)) as scratch:
            await scratch.save_discovery(EXPERIMENT, RUN)
            assert scratch.knowledge.experiments() == [EXPERIMENT]
        assert catalogue.knowledge.experiments() == []
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        assert catalogue.knowledge.experiments() == []
        await catalogue.save_discovery(EXPERIMENT, RUN)
    with closing(open_scratch(tmp_path)) as scratch:
        assert scratch.knowledge.experiments() == [EXPERIMENT]
    nowhere = tmp_path / "nowhere"
    with closing(open_scratch(nowhere)) as scratch:
        await scratch.save_discovery(EXPERIMENT, RUN)
    assert not nowhere.exists()


def test_questions_of_a_catalogue_that_is_not_there_find_nothing(tmp_path: Path) -> None:
    """Asking makes no file."""
    with reading(tmp_path) as connection:
        assert connection is None
    assert list(tmp_path.iterdir()) == []
