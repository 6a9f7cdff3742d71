"""One SQLite file: opened with full syncs, migrated, and written by one transaction at a time for many writers."""

import re
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, TypeVar

import anyio
import anyio.to_thread
from msgspec import Struct
from sqlalchemy import Connection, Engine, Table, Update, create_engine, event, update
from sqlalchemy.dialects import sqlite
from sqlalchemy.exc import DBAPIError
from sqlalchemy.pool import StaticPool

from harvestd import failpoints
from harvestd.catalogue.schema import HEAD, REBUILD, meta, metadata
from harvestd.catalogue.state_dir import FILE_NAME, InconsistentRows, refuses_rows, unusable
from harvestd.convention.scan.stability import NETWORK_FILESYSTEMS
from harvestd.errors import Fatal, HaltedForSafety

insert: Final = sqlite.insert
"""The dialect's own, with ON CONFLICT: other modules import it from here."""

_BUSY_SECONDS = 10.0
VERSION_TABLE = """
CREATE TABLE alembic_version (
    version_num VARCHAR(32) NOT NULL,
    CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
)
"""
"""The table in which Alembic records the last migration, as Alembic creates it."""
_REMOTE_FUSE = frozenset({"fuse.sshfs", "fuse.rclone", "fuse.s3fs", "fuse.glusterfs", "fuse.ceph", "fuse.gcsfuse"})
"""Other FUSE file systems are often on local disks."""

_BEGIN = "harvestd_begin"
"""The execution option with the statement that begins a transaction."""

_MOMENT = 0.001
"""Seconds between two looks at a thread whose end could not be awaited."""
_READERS = 4
"""Queries that run at a time, each in a thread with a connection of its own."""
_MAX_VARIABLES = 500
"""SQLite limits the number of bound values in one statement."""

_Value = TypeVar("_Value")
Change = Callable[[Connection], object]
"""Statements of one writer; runs in a transaction that it may share with others."""


def open_engine(state_dir: Path, *, timeout: float = _BUSY_SECONDS) -> Engine:
    """Open or create the database below `state_dir`; raise `Fatal` if SQLite's locks are unreliable there.

    `timeout`: seconds to wait while another process writes.
    """
    filesystem = filesystem_of(state_dir)
    if filesystem in NETWORK_FILESYSTEMS | _REMOTE_FUSE:
        raise Fatal(
            f"{state_dir} is on a network file system ({filesystem}), where the catalogue's locks can't be trusted",
            hint='set state_dir to a directory on a local disk, e.g. state_dir = "~/.local/state/harvestd"',
        )
    path = state_dir / FILE_NAME
    engine = create_engine(
        f"sqlite:///{path}", connect_args={"timeout": timeout, "check_same_thread": False}, pool_size=2
    )

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _record: Any) -> None:  # noqa: ANN401  (the driver's own connection)
        connection.isolation_level = None
        # Some builds of SQLite overwrite deleted content: each intent would be written to disk twice.
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON", "secure_delete=OFF"):
            connection.execute(f"PRAGMA {pragma}")
        # The pages of a savepoint are copied to a file otherwise, which doubles the time of saving new files.
        connection.execute("PRAGMA temp_store=MEMORY")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get(_BEGIN, "BEGIN"))

    return engine


@contextmanager
def writing(engine: Engine) -> Iterator[Connection]:
    """Provide a transaction that holds the write lock from its beginning, where it waits for the lock once.

    A transaction that takes the lock later fails at once if another process has written since it began.
    """
    with engine.execution_options(**{_BEGIN: "BEGIN IMMEDIATE"}).begin() as connection:
        yield connection


_OCTAL = re.compile(r"\\([0-7]{3})")
"""The form of spaces, tabs, newlines and backslashes in the mount table."""


def filesystem_of(path: Path) -> str:
    """Return the type of the file system of `path`, from the kernel's mount table; empty if unknown."""
    best, kind = -1, ""
    resolved = str(path.resolve())
    for line in Path("/proc/self/mountinfo").read_text(encoding="utf-8", errors="replace").splitlines():
        before, _, after = line.partition(" - ")
        mount = _OCTAL.sub(lambda found: chr(int(found[1], 8)), before.split(" ")[4])
        inside = mount in {"/", resolved} or resolved.startswith(mount + "/")
        if inside and len(mount) >= best:
            best, kind = len(mount), after.split(" ")[0]
    return kind


def revision(engine: Engine) -> str | None:
    """Return the database's last migration; None for an empty database."""
    # Plain SQL avoids the cost of compiling statements.
    with engine.connect() as connection:
        marked = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'")
        if not marked.scalar():
            return None
        return connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()


def migrate(engine: Engine, state_dir: Path) -> None:
    """Migrate the database to `HEAD`, keeping a copy of an older one; raise `Fatal` for one of a newer harvestd.

    An empty one gets the newest tables directly; a test compares these with the tables that migrations make. It also
    gets a note that the content of the data root is not recorded yet: if this process ends before it is, the next one
    must do it.
    """
    with translated():
        found = revision(engine)
    if found is None:
        with translated(), engine.begin() as connection:
            _make(connection)
    elif found > HEAD:
        raise Fatal(
            f"the catalogue in {state_dir} was written by a newer harvestd (schema {found}, this one knows {HEAD})",
            hint="upgrade harvestd; the data itself is untouched",
        )
    elif found < HEAD:
        _keep_copy(engine, state_dir / f"{FILE_NAME}.before-{HEAD}")
        upgrade(engine, state_dir, found)


def _make(connection: Connection) -> None:
    metadata.create_all(connection, checkfirst=False)
    connection.exec_driver_sql(VERSION_TABLE)
    connection.exec_driver_sql("INSERT INTO alembic_version (version_num) VALUES (?)", (HEAD,))
    connection.execute(insert(meta).values(key=REBUILD, value="pending"))


def upgrade(engine: Engine, state_dir: Path, found: str) -> None:
    """Migrate the tables from revision `found` to the newest. Raise `Fatal`."""
    from alembic import command  # noqa: PLC0415  (heavy, and needed only when there is something to migrate)
    from alembic.config import Config  # noqa: PLC0415  (the same)
    from alembic.util.exc import CommandError  # noqa: PLC0415  (the same)

    config = Config()
    config.set_main_option("script_location", "harvestd.catalogue:migrations")
    try:
        with translated(), engine.begin() as connection:
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
    except CommandError as e:
        raise Fatal(f"the catalogue in {state_dir} has a schema ({found}) that no harvestd ever wrote: {e}") from e


def _keep_copy(engine: Engine, path: Path) -> None:
    """Write a complete copy, including the write-ahead log, also while others read."""
    with translated(), engine.connect() as connection:
        copy = sqlite3.connect(path)
        try:
            driver_of(connection).backup(copy)
        finally:
            copy.close()


def driver_of(connection: Connection) -> sqlite3.Connection:
    """Return the driver's connection of SQLAlchemy's connection."""
    driver = connection.connection.driver_connection
    if not isinstance(driver, sqlite3.Connection):
        raise TypeError("the catalogue is an SQLite file")
    return driver


@contextmanager
def reading(state_dir: Path) -> Iterator[Connection | None]:
    """Open the catalogue for reading; provide None if none was written yet.

    Raise `Fatal` for another schema and `HaltedForSafety` if the file can't be read.
    """
    try:
        exists = (state_dir / FILE_NAME).exists()
    except OSError as e:
        raise Fatal(f"the catalogue in {state_dir} can't be read: {e.strerror}") from e
    if not exists:
        yield None
        return
    engine = open_engine(state_dir)
    try:
        with translated():
            found = revision(engine)
            if found != HEAD:
                raise Fatal(
                    f"the catalogue in {state_dir} has schema {found or 'none'}, this harvestd reads {HEAD}",
                    hint="`harvestd once` or `harvestd run` migrates an older one; a newer one needs a newer harvestd",
                )
            with engine.connect() as connection:
                yield connection
    finally:
        engine.dispose()


@contextmanager
def translated() -> Iterator[None]:
    """Convert errors of the database about its file to `HaltedForSafety`."""
    try:
        yield
    except DBAPIError as e:
        raise unusable(e.orig) from e
    except sqlite3.Error as e:  # of what is done to the driver's own connection
        raise unusable(e) from e


class _Pending(Struct, eq=False):
    change: Change
    done: bool = False
    failure: Exception | None = None


class _Batch:
    """The changes of one transaction, which are committed by a thread or given back to the queue, never both."""

    def __init__(self, changes: Sequence[_Pending]) -> None:
        self.changes = changes
        self._claimed = threading.Lock()

    def claim(self) -> bool:
        """Return whether the caller is the first to claim it, in whatever thread."""
        return self._claimed.acquire(blocking=False)

    @property
    def done(self) -> bool:
        """Whether the outcome of each change is known."""
        return all(pending.done for pending in self.changes)


class Database:
    """Groups changes: those that arrive during a commit go into the next transaction together.

    A change that can't be made fails alone. If the file can't be written, all changes of the transaction fail.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._lock = anyio.Lock()
        # A catalogue in memory has one connection for everything.
        is_single = isinstance(engine.pool, StaticPool)
        self._reading: anyio.Lock | anyio.Semaphore = self._lock if is_single else anyio.Semaphore(_READERS)
        self._queue: list[_Pending] = []

    async def write(self, change: Change) -> None:
        """Run `change` in a transaction and return once it is on disk.

        Raise `HaltedForSafety` if the file can't be written, `InconsistentRows` if the existing rows do not allow the
        change, and any exception of `change` itself; then nothing of it is on disk. A cancellation takes effect only at
        the caller's next await (hence the shield): other changes may be in the same transaction, and memory must match
        the disk.
        """
        mine = _Pending(change)
        self._queue.append(mine)
        with anyio.CancelScope(shield=True):
            async with self._lock:
                if not mine.done:
                    changes, self._queue = self._queue, []
                    await self._committed(changes, mine)
        if mine.failure is not None:
            raise mine.failure

    async def _committed(self, changes: Sequence[_Pending], mine: _Pending) -> None:
        """Commit changes in a thread. If it can't be started, raise, and leave all of them but `mine` in the queue."""
        batch = _Batch(changes)
        try:
            await anyio.to_thread.run_sync(self._commit, batch)
        except BaseException as error:
            if batch.claim():
                self._queue = [*(pending for pending in changes if pending is not mine), *self._queue]
                raise
            while not batch.done:  # noqa: ASYNC110  (a thread sets it)
                await anyio.sleep(_MOMENT)
            # The thread has noted the outcome: a writer whose change is on disk must go on to change memory as well.
            if mine.failure is not None or not isinstance(error, Exception):
                raise

    def _commit(self, batch: _Batch) -> None:
        if not batch.claim():
            return
        failure: HaltedForSafety | None = HaltedForSafety("the transaction was broken off")
        try:
            with translated(), writing(self.engine) as connection:
                for pending in batch.changes:
                    pending.failure = _failure_of(pending.change, connection)
                failpoints.reach("catalogue.changed")
            failpoints.reach("catalogue.committed")
        except HaltedForSafety as e:
            failure = e
        else:
            failure = None
        finally:
            # After any exception, no writer of the batch may assume that its change was made.
            for pending in batch.changes:
                pending.done, pending.failure = True, failure or pending.failure

    async def read(self, query: Callable[[Connection], _Value]) -> _Value:
        """Return the result of `query`, which should take milliseconds. Raise `HaltedForSafety` if that fails."""
        async with self._reading:
            return await anyio.to_thread.run_sync(self._run_query, query)

    def _run_query(self, query: Callable[[Connection], _Value]) -> _Value:
        with translated(), self.engine.connect() as connection:
            return query(connection)

    def close(self) -> None:
        """Close the file."""
        self.engine.dispose()


def _failure_of(change: Change, connection: Connection) -> Exception | None:
    """Make one change of a shared transaction; if that fails, undo all of it and return the exception.

    Raise errors of the database about its file: they concern the whole transaction.
    """
    connection.exec_driver_sql("SAVEPOINT one_change")
    failure: Exception | None = None
    try:
        change(connection)
    except DBAPIError as e:
        if not refuses_rows(e.orig):
            raise
        failure = InconsistentRows(f"the catalogue's rows don't allow a change: {e.orig}")
    except Exception as e:  # noqa: BLE001  (a bulkhead: writers of other hosts share the transaction)
        failure = e
    if failure is not None:
        connection.exec_driver_sql("ROLLBACK TO one_change")
    connection.exec_driver_sql("RELEASE one_change")
    return failure


def update_one(connection: Connection, statement: Update) -> None:
    """Run an UPDATE of one row; raise `InconsistentRows` if it matches another number of rows."""
    found = connection.execute(statement).rowcount
    if found != 1:
        raise InconsistentRows(f"{found} rows of `{statement.table}` were found where one was to be changed")


def replace_version(connection: Connection, table: Table, row: Mapping[str, Any]) -> None:
    """Update a record with an `id` and a `row_version`, which is the version on which `row` is based.

    Raise `InconsistentRows` if it was changed or deleted since.
    """
    based_on = (table.c.id == row["id"], table.c.row_version == row["row_version"])
    values = {**row, "row_version": row["row_version"] + 1}
    if connection.execute(update(table).where(*based_on).values(values)).rowcount != 1:
        raise InconsistentRows(f"a record in `{table}` was changed since it was read")


def sliced(values: Sequence[_Value]) -> Iterator[Sequence[_Value]]:
    """Yield the values in slices that fit in one statement."""
    for start in range(0, len(values), _MAX_VARIABLES):
        yield values[start : start + _MAX_VARIABLES]
