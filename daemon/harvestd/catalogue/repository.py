"""The catalogue: all records, in memory for planners and on disk, changed only through this class.

Each method that changes something waits until it is on disk, and only then updates memory: everything in memory is also
on disk. Methods raise `HaltedForSafety` if the database can't be written: then nothing more may be published; and
`InconsistentRows` for a change that contradicts recorded rows: then only that change was not made.
"""

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from msgspec.structs import replace
from sqlalchemy import Connection, Update, delete, select, update
from sqlalchemy.dialects.sqlite import insert

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import Database, sliced, update_one
from harvestd.catalogue.entries import GONE, HostRecord, Intent, Orphans
from harvestd.catalogue.errors import InconsistentRows
from harvestd.catalogue.keyed_locks import KeyedLocks
from harvestd.catalogue.loading import FileLoader
from harvestd.catalogue.restore import Restoring
from harvestd.catalogue.tables.devices import Devices
from harvestd.catalogue.tables.left_out import LeftOutRecords
from harvestd.catalogue.tables.releases import Releases
from harvestd.catalogue.tables.requests import Changes
from harvestd.catalogue.tables.transfers import Transfers
from harvestd.catalogue.tables.verdicts import Verdicts
from harvestd.convention.metadata.naming import ExperimentName
from harvestd.convention.paths import LocalPath
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import EvalLink, ExperimentRecord, FileRecord, RunRecord, sections_in, sections_of
from harvestd.planning.renamed import moved_files
from harvestd.planning.requests import Request


class Catalogue:
    """One open catalogue."""

    def __init__(self, database: Database, knowledge: PlanningIndex) -> None:
        """Use `open.open_catalogue` instead."""
        self._database = database
        self.knowledge = knowledge
        self.files = FileLoader(database, knowledge)
        """The files that are in memory."""
        self.devices = Devices(database)
        self.verdicts = Verdicts(database)
        self.transfers = Transfers(database)
        self.releases = Releases(database)
        """Decisions about releasing hosts."""
        self.left_out = LeftOutRecords(database)
        self.restoring = Restoring(database, knowledge, self.left_out)
        self.orphans = Orphans()
        """Rows of unrecorded experiments; `knowledge` does not have them."""
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
        row = {**rows.experiment_row(experiment), "created": time.time()}

        def change(connection: Connection) -> None:
            connection.execute(insert(schema.experiments).values(row))
            connection.execute(insert(schema.runs).values(rows.run_row(run)))

        with self.knowledge.reserved(experiment.directory):
            await self._database.write(change)
            self.knowledge.learn_experiment(experiment)
            self.knowledge.learn_run(run)

    async def save_experiment(self, experiment: ExperimentRecord) -> None:
        """Record changes to an experiment whose directory stays the same."""
        statement = _experiment(experiment).values(rows.experiment_row(experiment))
        await self._database.write(lambda connection: update_one(connection, statement))
        self.knowledge.learn_experiment(experiment)

    async def intend_rename(self, experiment: ExperimentRecord, name: ExperimentName | None) -> None:
        """Record the name to which an experiment's directory is about to be renamed; None: no rename."""
        statement = _experiment(experiment).values(renaming=None if name is None else rows.name_text(name))
        await self._database.write(lambda connection: update_one(connection, statement))

    async def intended_renames(self) -> dict[str, ExperimentName]:
        """Return the interrupted renames of the last process, by the experiment's id."""

        def query(connection: Connection) -> dict[str, ExperimentName]:
            table = schema.experiments.c
            found = connection.execute(select(table.id, table.renaming).where(table.renaming.is_not(None)))
            return {row.id: rows.name_of(row.renaming) for row in found}

        return await self._database.read(query)

    async def move_experiment(self, after: ExperimentRecord) -> None:
        """Record the new directory name of an experiment and its files; raise `RejectedPath` for an invalid path."""
        sections = {*self.knowledge.sections_of(after.id), *sections_in(after.directory)}
        async with self.files.loaded(sections):
            await self._move_experiment(after)

    async def _move_experiment(self, after: ExperimentRecord) -> None:
        before = self.knowledge.files_of(after.id)
        files = [replace(file, target=_inside(after, file.target)) for file in before]
        links = self.knowledge.links_in(self.knowledge.experiment(after.id).directory)
        moved = {_inside(after, path): target for path, target in links.items()}

        def change(connection: Connection) -> None:
            values = {**rows.experiment_row(after), "renaming": None}
            update_one(connection, _experiment(after).values(values))
            connection.execute(delete(schema.files).where(schema.files.c.experiment == after.id))
            if files:
                connection.exec_driver_sql(rows.upsert_of_files(), [rows.file_row(file) for file in files])
            _forget_links(connection, list(links))
            if moved:
                values_of = [{"path": str(path), "target": target} for path, target in moved.items()]
                connection.execute(insert(schema.links), values_of)

        await self._database.write(change)
        for file in before:
            self.knowledge.forget_file(file)
        for path in links:
            self.knowledge.forget_link(path)
        self.knowledge.learn_experiment(after)
        for file in files:
            self.knowledge.learn_file(file)
        for path, target in moved.items():
            self.knowledge.learn_link(path, target)

    async def record_gone(self, experiment: ExperimentRecord) -> None:
        """Record, in one transaction, that a person removed an experiment's directory with its content."""
        async with self.files.loaded(self.knowledge.sections_of(experiment.id)):
            await self._record_gone(experiment)

    async def _record_gone(self, experiment: ExperimentRecord) -> None:
        after = replace(experiment, gone=True)
        files = self.knowledge.files_of(experiment.id)
        links = list(self.knowledge.links_in(experiment.directory))

        def change(connection: Connection) -> None:
            _forget(connection, files)
            _forget_links(connection, links)
            update_one(connection, _experiment(after).values({**rows.experiment_row(after), "renaming": None}))

        await self._database.write(change)
        for file in files:
            self.knowledge.forget_file(file)
        for path in links:
            self.knowledge.forget_link(path)
        self.knowledge.learn_experiment(after)

    async def change_run(self, key: tuple[str, str], change: Callable[[RunRecord], RunRecord]) -> RunRecord | None:
        """Replace a run's record by the result of `change`; return it, None if the run is unknown.

        `change` gets the newest record, also if several tasks change one run at a time.
        """
        async with self._changing.hold(key):
            before = self.knowledge.run_at(*key)
            if before is None:
                return None
            after = change(before)
            if after != before:
                await self.save_run(after)
            return after

    async def save_run(self, run: RunRecord) -> None:
        """Insert or replace a run; use `change_run` for a run that several tasks may change at a time."""
        if run.experiment is not None:
            self._require([run.experiment])
        row = rows.run_row(run)
        statement = insert(schema.runs).values(row)
        statement = statement.on_conflict_do_update(index_elements=["id"], set_=row)
        await self._database.write(lambda connection: connection.execute(statement))
        self.knowledge.learn_run(run)

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
                await self._move_run(before, after, files)
            return after

    async def _move_run(self, before: RunRecord, after: RunRecord, files: Sequence[FileRecord]) -> None:
        asked = schema.requests.c
        requests = update(schema.requests).where(asked.storage == before.storage, asked.place == before.place)
        run = update(schema.runs).where(schema.runs.c.id == before.id).values(rows.run_row(after))

        def change(connection: Connection) -> None:
            update_one(connection, run)
            connection.execute(requests.values(place=after.place))
            if files:
                connection.exec_driver_sql(rows.upsert_of_files(), [rows.file_row(file) for file in files])

        await self._database.write(change)
        self.knowledge.move_run(before, after)
        for file in files:
            self.knowledge.learn_file(file)

    async def save_eval_link(self, link: EvalLink) -> None:
        """Record the content of an eval_config.yaml."""
        row = rows.eval_link_row(link)
        statement = insert(schema.eval_configs).values(row)
        statement = statement.on_conflict_do_update(index_elements=["storage", "place"], set_=row)
        await self._database.write(lambda connection: connection.execute(statement))
        self.knowledge.learn_eval_link(link)

    async def intend(self, files: Sequence[FileRecord], moved_from: Sequence[LocalPath] = ()) -> Intent:
        """Record files before publishing, so that after a crash they are not mistaken for a person's files.

        `moved_from`: the present local path of each file, if they are about to be moved.
        """
        made: list[int] = []

        def change(connection: Connection) -> None:
            statement = insert(schema.intents).values(files=rows.intent_text(files, moved_from))
            made.extend(connection.execute(statement.returning(schema.intents.c.id)).scalars())

        await self._database.write(change)
        return Intent(made[0], tuple(files), tuple(moved_from))

    async def save_files(
        self, files: Sequence[FileRecord], fulfilled: Sequence[Intent] = (), gone: Sequence[FileRecord] = ()
    ) -> None:
        """Record files that are local and synced; delete the records of `gone` files and the intents `fulfilled`.

        It is one transaction.
        """

        def change(connection: Connection) -> None:
            _forget(connection, gone)
            if files:
                connection.exec_driver_sql(rows.upsert_of_files(), [rows.file_row(file) for file in files])
            for some in sliced([intent.id for intent in fulfilled]):
                connection.execute(delete(schema.intents).where(schema.intents.c.id.in_(some)))

        self._require({file.experiment for file in files} - {None})
        if not (files or fulfilled or gone):
            return
        async with self.files.loaded(sections_of((*files, *gone))):
            await self._database.write(change)
            for file in gone:
                self.knowledge.forget_file(file)
            for file in files:
                self.knowledge.learn_file(file)

    async def give_up(self, files: Sequence[FileRecord]) -> Intent:
        """Delete the records of files that are about to be removed, and record this as an intent.

        After a crash, files that still exist are recorded again. `save_files` deletes the intent.
        """
        made: list[int] = []

        def change(connection: Connection) -> None:
            _forget(connection, files)
            statement = insert(schema.intents).values(files=rows.intent_text(files))
            made.extend(connection.execute(statement.returning(schema.intents.c.id)).scalars())

        async with self.files.loaded(sections_of(files)):
            await self._database.write(change)
            for file in files:
                self.knowledge.forget_file(file)
        return Intent(made[0], tuple(files))

    async def forget_files(self, files: Sequence[FileRecord]) -> None:
        """Delete the records of files that are no longer local: if a host still has them, they are wanted again."""
        async with self.files.loaded(sections_of(files)):
            await self._database.write(lambda connection: _forget(connection, files))
            for file in files:
                self.knowledge.forget_file(file)

    async def forget_links(self, paths: Sequence[LocalPath]) -> None:
        """Delete the records of links that no longer exist."""
        await self._database.write(lambda connection: _forget_links(connection, paths))
        for path in paths:
            self.knowledge.forget_link(path)

    async def save_link(self, path: LocalPath, target: str) -> None:
        """Record a local link."""
        row = {"path": str(path), "target": target}
        statement = insert(schema.links).values(row).on_conflict_do_update(index_elements=["path"], set_=row)
        await self._database.write(lambda connection: connection.execute(statement))
        self.knowledge.learn_link(path, target)

    def changes(self) -> Changes:
        """Return a detector of writes to the database by any process."""
        return Changes(Path(self._database.engine.url.database or ""))

    async def take_requests(self) -> list[Request]:
        """Return the new requests by hand, and record that they were taken."""
        table = schema.requests.c

        def query(connection: Connection) -> list[Request]:
            found = connection.execute(select(schema.requests).where(table.taken_at.is_(None)).order_by(table.id))
            return [rows.request_of(row) for row in found]

        now = time.time()
        taken = [replace(request, taken_at=now) for request in await self._database.read(query)]
        if taken:
            identifiers = [request.id for request in taken]

            def change(connection: Connection) -> None:
                for some in sliced(identifiers):
                    noticed = update(schema.requests).where(table.taken_at.is_(None), table.id.in_(some))
                    connection.execute(noticed.values(taken_at=now))

            await self._database.write(change)
        for request in taken:
            self.knowledge.learn_request(request)
        return taken

    async def settle_request(self, request: Request, outcome: str) -> bool:
        """Record the outcome of a request, which settles it. Return whether it was open until now."""
        settled = replace(request, settled_at=time.time(), outcome=outcome)
        table = schema.requests.c
        statement = update(schema.requests).where(table.id == request.id, table.settled_at.is_(None))
        statement = statement.values(settled_at=settled.settled_at, outcome=outcome)
        changed: list[int] = []
        await self._database.write(lambda connection: changed.append(connection.execute(statement).rowcount))
        if changed != [1]:
            return False
        self.knowledge.learn_request(settled)
        return True

    async def record_absent_hosts(self, present: Collection[str]) -> None:
        """Record as gone each host whose name is not among `present`, the names of all hosts that there are."""
        table = schema.hosts.c

        def change(connection: Connection) -> None:
            known = connection.execute(select(table.name).where(table.state != GONE)).scalars().all()
            for name in set(known) - set(present):
                connection.execute(update(schema.hosts).where(table.name == name).values(state=GONE))

        await self._database.write(change)

    async def save_host(self, host: HostRecord) -> None:
        """Record the last known state of a host."""
        columns = {
            "identity": host.identity,
            "address": host.address,
            "state": host.state,
            "error": host.error,
            "pending_bytes": host.pending_bytes,
        }
        if host.method:
            columns["method"] = host.method
        if host.last_success is not None:
            columns["last_success"] = host.last_success
        first = {"name": host.name, "first_seen": time.time(), "method": host.method, **columns}
        table = schema.hosts.c
        # A renamed host is the same host: the times under its earlier name count.
        former = (table.identity == host.identity, table.name != host.name)

        def change(connection: Connection) -> None:
            known = select(table.first_seen, table.last_success, table.method).where(*former)
            before = connection.execute(known).mappings().first()
            kept = {key: value for key, value in before.items() if value} if before is not None else {}
            statement = insert(schema.hosts).values({**first, **kept, **columns})
            connection.execute(delete(schema.hosts).where(*former))
            connection.execute(statement.on_conflict_do_update(index_elements=["name"], set_=columns))

        await self._database.write(change)

    async def save_last_successes(self, times: Mapping[str, float]) -> None:
        """Record when hosts, by name, were last read completely (Unix time)."""
        values = [(at, name) for name, at in times.items()]

        def change(connection: Connection) -> None:
            connection.exec_driver_sql("UPDATE hosts SET last_success = ? WHERE name = ?", values)

        if values:
            await self._database.write(change)

    async def intents(self) -> list[Intent]:
        """Return the intents that the last process left open, oldest first."""

        def query(connection: Connection) -> list[Intent]:
            found = connection.execute(select(schema.intents).order_by(schema.intents.c.id))
            return [
                Intent(row.id, rows.files_of_intent(row.files), rows.moved_from_of_intent(row.files)) for row in found
            ]

        return await self._database.read(query)

    async def get(self, identity: str) -> str | None:
        """Return the host key pinned under `identity`; None if there is none (for the pin store of `remote`)."""

        def query(connection: Connection) -> str | None:
            statement = select(schema.pins.c.key).where(schema.pins.c.identity == identity)
            return connection.execute(statement).scalar()

        return await self._database.read(query)

    async def put(self, identity: str, key_line: str) -> None:
        """Pin a host key under `identity`."""
        row = {"identity": identity, "key": key_line, "first_used": time.time()}
        statement = insert(schema.pins).values(row).on_conflict_do_nothing()
        await self._database.write(lambda connection: connection.execute(statement))

    def _require(self, experiments: Collection[str | None]) -> None:
        """Raise `InconsistentRows` if any of the experiments is not recorded."""
        unknown = [each for each in experiments if each is not None and not self.knowledge.has_experiment(each)]
        if unknown:
            raise InconsistentRows(f"a row names the experiment {unknown[0]}, which is not on record")

    def close(self) -> None:
        """Close the database."""
        self._database.close()


def _experiment(experiment: ExperimentRecord) -> Update:
    return update(schema.experiments).where(schema.experiments.c.id == experiment.id)


def _inside(experiment: ExperimentRecord, path: LocalPath) -> LocalPath:
    return LocalPath((experiment.directory, *path.parts[1:]))


def _forget(connection: Connection, files: Sequence[FileRecord]) -> None:
    for some in sliced([str(file.target) for file in files]):
        connection.execute(delete(schema.files).where(schema.files.c.target.in_(some)))


def _forget_links(connection: Connection, paths: Sequence[LocalPath]) -> None:
    for some in sliced([str(path) for path in paths]):
        connection.execute(delete(schema.links).where(schema.links.c.path.in_(some)))
