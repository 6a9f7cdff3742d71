"""The catalogue: all records, in memory for planners and on disk, changed only through this class.

Each method that changes something waits until it is on disk, and only then updates memory: everything in memory is also
on disk. Methods raise `HaltedForSafety` if the database can't be written: then nothing more may be published; and
`InconsistentRows` for a change that contradicts recorded rows: then only that change was not made.
"""

import time
from collections.abc import AsyncIterator, Callable, Hashable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import anyio
from msgspec.structs import replace
from sqlalchemy import Connection, Update, delete, select, update

from harvestd.catalogue import rows, schema, stored_files
from harvestd.catalogue.engine import Database, insert, update_one
from harvestd.catalogue.entries import Intent
from harvestd.catalogue.hosts import Devices, Hosts, LeftOutRecords, Releases, Verdicts
from harvestd.catalogue.journal import Transfers, add_intent, drop_intents, open_intents
from harvestd.catalogue.loading import FileLoader
from harvestd.catalogue.notifications import Notifications
from harvestd.catalogue.requests import Requests
from harvestd.catalogue.restore import RecordRestorer
from harvestd.catalogue.state_dir import InconsistentRows
from harvestd.catalogue.stored_records import (
    add_experiment,
    add_links,
    add_runs,
    forget_links,
    replace_experiment,
    replace_run,
    volume_id,
    volume_ids,
)
from harvestd.convention.metadata.naming import ExperimentName
from harvestd.convention.paths import LocalPath
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import EvalLink, ExperimentRecord, FileRecord, RunRecord, sections_in, sections_of
from harvestd.planning.renamed import moved_files

_Record = TypeVar("_Record", ExperimentRecord, RunRecord)


class _Counted:
    def __init__(self) -> None:
        self.lock = anyio.Lock()
        self.users = 0


class KeyedLocks:
    """Locks by key: work on one key is serialised. A key without users takes no memory."""

    def __init__(self) -> None:
        self._locks: dict[Hashable, _Counted] = {}

    @asynccontextmanager
    async def hold(self, key: Hashable) -> AsyncIterator[None]:
        """Hold the lock of `key` during the body. It is not reentrant."""
        counted = self._locks.setdefault(key, _Counted())
        counted.users += 1
        try:
            async with counted.lock:
                yield
        finally:
            counted.users -= 1
            if not counted.users:
                del self._locks[key]


class Catalogue:
    """One open catalogue."""

    def __init__(self, database: Database, knowledge: PlanningIndex) -> None:
        """Use `open.open_catalogue` instead."""
        self.database = database
        self.knowledge = knowledge
        self.files = FileLoader(database, knowledge)
        """The files that are in memory."""
        self.hosts = Hosts(database)
        self.devices = Devices(database)
        self.verdicts = Verdicts(database)
        self.transfers = Transfers(database)
        self.releases = Releases(database)
        """Decisions about releasing hosts."""
        self.notifications = Notifications(database)
        self.requests = Requests(database, knowledge)
        self.left_out = LeftOutRecords(database)
        self.restoring = RecordRestorer(database, knowledge, self.left_out)
        self.discovering = KeyedLocks()
        """By a run's directory name: held from the check whether a run is new until it is recorded."""
        self._changing = KeyedLocks()
        """By a run's key."""

    async def save_discovery(self, experiment: ExperimentRecord, run: RunRecord) -> None:
        """Record a new run with its experiment, in one transaction.

        The caller must hold `discovering` for the run's name since it checked whether the run is known, so that another
        host that shows the same run does not name it again. The directory name counts as taken from the start of this
        call.
        """

        def change(connection: Connection) -> None:
            add_experiment(connection, experiment)
            add_runs(connection, [run])

        with self.knowledge.reserved(experiment.directory):
            await self.database.write(change)
            self.knowledge.add_experiment(experiment)
            self.knowledge.add_run(run)

    async def save_experiment(self, experiment: ExperimentRecord) -> None:
        """Record changes to an experiment whose directory stays the same.

        Raise `InconsistentRows` if it was changed since the record was read.
        """
        await self.database.write(partial(replace_experiment, experiment=experiment))
        self.knowledge.add_experiment(_next_version(experiment))

    async def intend_rename(self, experiment: ExperimentRecord, name: ExperimentName | None) -> None:
        """Record the name to which an experiment's directory is about to be renamed; None: no rename."""
        statement = _experiment(experiment).values(renaming=None if name is None else rows.name_text(name))
        await self.database.write(lambda connection: update_one(connection, statement))

    async def intended_renames(self) -> dict[str, ExperimentName]:
        """Return the interrupted renames of the last process, by the experiment's id."""

        def query(connection: Connection) -> dict[str, ExperimentName]:
            table = schema.experiments.c
            found = connection.execute(select(table.id, table.renaming).where(table.renaming.is_not(None)))
            return {row.id: rows.name_of(row.renaming) for row in found}

        return await self.database.read(query)

    async def move_experiment(self, after: ExperimentRecord) -> None:
        """Record the new directory name of an experiment; raise `RejectedPath` for an invalid path of a file or link.

        The rows of its files and links have paths below the directory, and stay.
        """
        sections = {*self.knowledge.sections_of(after.id), *sections_in(after.directory)}
        async with self.files.loaded(sections):
            await self._move_experiment(after)

    async def _move_experiment(self, after: ExperimentRecord) -> None:
        before = self.knowledge.files_of(after.id)
        files = [replace(file, target=_inside(after, file.target)) for file in before]
        links = self.knowledge.links_in(self.knowledge.experiment(after.id).directory)
        moved = {_inside(after, path): target for path, target in links.items()}

        def change(connection: Connection) -> None:
            replace_experiment(connection, after)
            update_one(connection, _experiment(after).values(renaming=None))

        await self.database.write(change)
        for file in before:
            self.knowledge.forget_file(file)
        for path in links:
            self.knowledge.forget_link(path)
        self.knowledge.add_experiment(_next_version(after))
        for file in files:
            self.knowledge.add_file(file)
        for path, target in moved.items():
            self.knowledge.add_link(path, target)

    async def record_gone(self, experiment: ExperimentRecord) -> None:
        """Record, in one transaction, that a person removed an experiment's directory with its content."""
        async with self.files.loaded(self.knowledge.sections_of(experiment.id)):
            await self._record_gone(experiment)

    async def _record_gone(self, experiment: ExperimentRecord) -> None:
        after = replace(experiment, gone=True)
        files = self.knowledge.files_of(experiment.id)
        links = list(self.knowledge.links_in(experiment.directory))

        def change(connection: Connection) -> None:
            for table in (schema.files, schema.links):
                connection.execute(delete(table).where(table.c.experiment_id == experiment.id))
            replace_experiment(connection, after)
            update_one(connection, _experiment(after).values(renaming=None))

        await self.database.write(change)
        for file in files:
            self.knowledge.forget_file(file)
        for path in links:
            self.knowledge.forget_link(path)
        self.knowledge.add_experiment(_next_version(after))

    async def change_run(self, key: tuple[str, str], change: Callable[[RunRecord], RunRecord]) -> RunRecord | None:
        """Replace a run's record by the result of `change`; return it, None if the run is unknown.

        `change` gets the newest record, also if several tasks change one run at a time.
        """
        async with self._changing.hold(key):
            before = self.knowledge.run_at(*key)
            if before is None:
                return None
            after = change(before)
            if after == before:
                return before
            await self.database.write(partial(replace_run, run=after))
            indexed = _next_version(after)
            self.knowledge.add_run(indexed)
            return indexed

    async def add_run(self, run: RunRecord) -> None:
        """Record a new run of an experiment on record, or of none; use `change_run` for one that is on record."""
        await self.database.write(partial(add_runs, runs=[run]))
        self.knowledge.add_run(run)

    async def move_run(self, key: tuple[str, str], change: Callable[[RunRecord], RunRecord]) -> RunRecord | None:
        """Record that a run has the remote path that `change` returns, with its files and requests.

        The caller has loaded all files from its storage.
        Return the new record; None if the run is unknown, or if a run with the new path exists.
        """
        async with self._changing.hold(key):
            before = self.knowledge.run_at(*key)
            after = None if before is None else change(before)
            if before is None or after is None or self.knowledge.run_at(*after.key) is not None:
                return None
            files = moved_files(before, after, self.knowledge)
            async with self.files.loaded(sections_of(files)):
                return await self._move_run(before, after, files)

    async def _move_run(self, before: RunRecord, after: RunRecord, files: Sequence[FileRecord]) -> RunRecord:
        table = schema.requests.c

        def change(connection: Connection) -> None:
            replace_run(connection, after)
            asked = (table.volume_id == volume_id(connection, before.storage), table.place == before.place)
            connection.execute(update(schema.requests).where(*asked).values(place=after.place))
            stored_files.save(connection, files)

        await self.database.write(change)
        indexed = _next_version(after)
        self.knowledge.move_run(before, indexed)
        for file in files:
            self.knowledge.add_file(file)
        return indexed

    async def save_eval_links(self, links: Sequence[EvalLink]) -> None:
        """Record the contents of eval_config.yaml files, in one transaction."""

        def change(connection: Connection) -> None:
            volumes = volume_ids(connection, {link.storage for link in links})
            statement = insert(schema.eval_configs)
            replaced = {name: statement.excluded[name] for name in ("version", "training_run")}
            statement = statement.on_conflict_do_update(index_elements=["volume_id", "place"], set_=replaced)
            connection.execute(statement, [rows.eval_link_row(link, volumes[link.storage]) for link in links])

        if links:
            await self.database.write(change)
        for link in links:
            self.knowledge.add_eval_link(link)

    async def intend(self, files: Sequence[FileRecord], moved_from: Sequence[LocalPath] = ()) -> Intent:
        """Record files before publishing, so that after a crash they are not mistaken for a person's files.

        `moved_from`: the present local path of each file, if they are about to be moved.
        """
        made: list[int] = []
        await self.database.write(lambda connection: made.append(add_intent(connection, files, moved_from)))
        return Intent(made[0], tuple(files), tuple(moved_from))

    async def save_files(
        self, files: Sequence[FileRecord], fulfilled: Sequence[Intent] = (), gone: Sequence[FileRecord] = ()
    ) -> None:
        """Record files that are local and synced; delete the records of `gone` files and the intents `fulfilled`.

        It is one transaction.
        """
        if not (files or fulfilled or gone):
            return
        self._require_directories(files)
        async with self.files.loaded(sections_of((*files, *gone))):
            replaced = [holder for file in files if (holder := self._replaced_by(file)) is not None]

            def change(connection: Connection) -> None:
                stored_files.forget(connection, (*gone, *replaced))
                stored_files.save(connection, files)
                drop_intents(connection, fulfilled)

            await self.database.write(change)
            for file in gone:
                self.knowledge.forget_file(file)
            for file in files:
                self.knowledge.add_file(file)

    def _replaced_by(self, file: FileRecord) -> FileRecord | None:
        """Return the record at a file's local path if it belongs to another experiment, so that its row is another."""
        holder = self.knowledge.holder_at(file.target)
        return holder if holder is not None and holder.experiment != file.experiment else None

    async def give_up(self, files: Sequence[FileRecord]) -> Intent:
        """Delete the records of files that are about to be removed, and record this as an intent.

        After a crash, files that still exist are recorded again. `save_files` deletes the intent.
        """
        made: list[int] = []

        def change(connection: Connection) -> None:
            stored_files.forget(connection, files)
            made.append(add_intent(connection, files))

        async with self.files.loaded(sections_of(files)):
            await self.database.write(change)
            for file in files:
                self.knowledge.forget_file(file)
        return Intent(made[0], tuple(files))

    async def forget_files(self, files: Sequence[FileRecord]) -> None:
        """Delete the records of files that are no longer local: if a host still has them, they are wanted again."""
        async with self.files.loaded(sections_of(files)):
            await self.database.write(partial(stored_files.forget, files=files))
            for file in files:
                self.knowledge.forget_file(file)

    async def forget_links(self, paths: Sequence[LocalPath]) -> None:
        """Delete the records of links that no longer exist."""
        await self.database.write(lambda connection: forget_links(connection, paths))
        for path in paths:
            self.knowledge.forget_link(path)

    async def save_link(self, path: LocalPath, target: str) -> None:
        """Record a local link."""

        def change(connection: Connection) -> None:
            forget_links(connection, [path])
            add_links(connection, {path: target})

        await self.database.write(change)
        self.knowledge.add_link(path, target)

    async def intents(self) -> list[Intent]:
        """Return the intents that the last process left open, oldest first."""
        return await self.database.read(open_intents)

    async def get(self, identity: str) -> str | None:
        """Return the host key pinned under `identity`; None if there is none (for the pin store of `remote`)."""

        def query(connection: Connection) -> str | None:
            statement = select(schema.pins.c.key).where(schema.pins.c.identity == identity)
            return connection.execute(statement).scalar()

        return await self.database.read(query)

    async def put(self, identity: str, key_line: str) -> None:
        """Pin a host key under `identity`."""
        row = {"identity": identity, "key": key_line, "first_used": time.time()}
        statement = insert(schema.pins).values(row).on_conflict_do_nothing()
        await self.database.write(lambda connection: connection.execute(statement))

    def _require_directories(self, files: Sequence[FileRecord]) -> None:
        """Raise `InconsistentRows` for a file outside of the directory of its experiment."""
        directories: dict[str | None, str] = {}
        for experiment in {file.experiment for file in files if file.experiment is not None}:
            if not self.knowledge.has_experiment(experiment):
                raise InconsistentRows(f"a row names the experiment {experiment}, which is not on record")
            directories[experiment] = self.knowledge.experiment(experiment).directory
        for file in files:
            if file.experiment is not None and directories[file.experiment] != file.target[0]:
                raise InconsistentRows(f"{file.target} is not in the directory of its experiment")

    def close(self) -> None:
        """Close the database."""
        self.database.close()


def _experiment(experiment: ExperimentRecord) -> Update:
    return update(schema.experiments).where(schema.experiments.c.id == experiment.id)


def _inside(experiment: ExperimentRecord, path: LocalPath) -> LocalPath:
    return LocalPath((experiment.directory, *path.parts[1:]))


def _next_version(record: _Record) -> _Record:
    return replace(record, row_version=record.row_version + 1)
