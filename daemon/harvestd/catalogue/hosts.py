"""The tables about hosts: their state, verdicts, decisions about releasing them, devices, and skipped entries.

A decision is recorded before any request to the cloud. A row that is still *asked* belongs to a process that ended in
between: the request may have been sent. Devices are those of the host's trees at the time when something was first seen
in them: in `meta`, one row for each host. Skipped entries are kept by host identity, since names and addresses are
reused.
"""

import json
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from msgspec import Struct
from msgspec.structs import replace
from sqlalchemy import ColumnElement, Connection, Row, and_, delete, or_, select, update

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import Database, insert, update_one
from harvestd.catalogue.entries import GONE, Decision, HostRecord, ReleaseOutcome, VerdictRecord
from harvestd.catalogue.stored_records import host_id
from harvestd.convention.scan.model import LeftOut
from harvestd.planning.left_behind import EntryStates, Lines, kept_on_record
from harvestd.planning.requests import RequestKind

_KEPT = 3_600.0
"""Seconds for which a settled request for a verdict is kept: the requester has read the answer long before."""


class Hosts:
    """The last known state of each host."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def record_absent(self, present: Collection[str]) -> None:
        """Record as gone each host whose name is not among `present`, the names of all hosts that there are."""
        table = schema.hosts.c

        def change(connection: Connection) -> None:
            known = connection.execute(select(table.name).where(table.listed, table.state != GONE)).scalars().all()
            for name in set(known) - set(present):
                connection.execute(update(schema.hosts).where(table.listed, table.name == name).values(state=GONE))

        await self._database.write(change)

    async def save(self, host: HostRecord) -> float:
        """Record the last known state of a host; another host that had its name is no longer listed.

        Return when it was first recorded, in Unix time.
        """
        columns = {
            "name": host.name,
            "listed": True,
            "address": host.address,
            "state": host.state,
            "error": host.error,
            "pending_bytes": rows.fitting(host.pending_bytes),
        }
        if host.method:
            columns["method"] = host.method
        if host.last_success is not None:
            columns["last_success"] = host.last_success
        first_seen = time.time()
        first = {"identity": host.identity, "first_seen": first_seen, "method": host.method, **columns}
        table = schema.hosts.c
        others = (table.name == host.name, table.identity != host.identity)
        replaced = update(schema.hosts).where(*others).values(listed=False, state=GONE)
        statement = insert(schema.hosts).values(first)
        statement = statement.on_conflict_do_update(index_elements=["identity"], set_=columns)
        returning = statement.returning(table.first_seen)

        def change(connection: Connection) -> None:
            nonlocal first_seen
            connection.execute(replaced)
            first_seen = connection.execute(returning).scalar_one()

        await self._database.write(change)
        return first_seen

    async def save_last_successes(self, times: Mapping[str, float]) -> None:
        """Record when hosts, by name, were last read completely (Unix time)."""
        values = [(at, name) for name, at in times.items()]

        def change(connection: Connection) -> None:
            connection.exec_driver_sql("UPDATE hosts SET last_success = ? WHERE listed AND name = ?", values)

        if values:
            await self._database.write(change)


class Verdicts:
    """Writes verdicts."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, records: Sequence[VerdictRecord], now: float) -> None:
        """Replace recorded verdicts, and delete old settled requests for verdicts; `now` in Unix time.

        Raise `HaltedForSafety` if that can't be written.
        """
        asked = schema.requests.c
        old = delete(schema.requests).where(asked.kind == RequestKind.JUDGE, asked.settled_at < now - _KEPT)

        def change(connection: Connection) -> None:
            for each in records:
                row = rows.verdict_row(each, host_id(connection, each.identity, each.name))
                statement = insert(schema.verdicts).values(row)
                connection.execute(statement.on_conflict_do_update(index_elements=["host_id"], set_=row))
            connection.execute(old)

        if records:
            await self._database.write(change)


class Releases:
    """The table of one catalogue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, decision: Decision) -> Decision:
        """Record a new decision; return it with its time and id. Raise `HaltedForSafety` if that fails."""
        at = time.time()
        row = {
            "at": at,
            "host": decision.host,
            "why": decision.why,
            "outcome": str(decision.outcome),
            "detail": decision.detail,
            "by_hand": decision.by_hand,
        }
        made: list[Decision] = []

        def change(connection: Connection) -> None:
            host = host_id(connection, decision.identity, decision.host)
            statement = insert(schema.releases).values({**row, "host_id": host}).returning(schema.releases.c.id)
            number = connection.execute(statement).scalar_one()
            made.append(replace(decision, at=at, id=int(number)))

        await self._database.write(change)
        return made[0]

    async def settle(self, decision: Decision) -> None:
        """Record the outcome of a recorded decision."""
        values = {"outcome": str(decision.outcome), "detail": decision.detail}
        statement = update(schema.releases).where(schema.releases.c.id == decision.id).values(values)
        await self._database.write(lambda connection: update_one(connection, statement))

    async def all(self) -> list[Decision]:
        """Return all decisions, oldest first."""

        def query(connection: Connection) -> list[Decision]:
            return [_decision(row) for row in connection.execute(rows.releases().order_by(_ID))]

        return await self._database.read(query)


_ID = schema.releases.c.id


def _decision(row: Row[Any]) -> Decision:
    return Decision(
        host=row.host,
        identity=row.identity,
        why=row.why,
        outcome=ReleaseOutcome(row.outcome),
        detail=row.detail,
        by_hand=row.by_hand,
        at=row.at,
        id=row.id,
    )


_KEY = "devices of {}"


class Devices:
    """The devices of every host, by its identity."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def of(self, identity: str) -> dict[str, int]:
        """Return a host's devices by the path of a root or tree; raise `HaltedForSafety` if unreadable."""

        def query(connection: Connection) -> str | None:
            return connection.execute(select(schema.meta.c.value).where(_of(identity))).scalar()

        found = await self._database.read(query)
        return {} if found is None else {str(place): int(device) for place, device in json.loads(found).items()}

    async def save(self, identity: str, devices: Mapping[str, int]) -> None:
        """Replace a host's devices; raise `HaltedForSafety` if that fails."""
        row = {"key": _KEY.format(identity), "value": json.dumps(dict(devices))}
        statement = insert(schema.meta).values(row).on_conflict_do_update(index_elements=["key"], set_=row)
        await self._database.write(lambda connection: connection.execute(statement))


def forget_devices(connection: Connection, identity: str) -> bool:
    """Delete the devices of a host at the operator's request; return whether there were any."""
    return connection.execute(delete(schema.meta).where(_of(identity))).rowcount > 0


def _of(identity: str) -> ColumnElement[bool]:
    return schema.meta.c.key == _KEY.format(identity)


class _OfHost(Struct):
    name: str
    lines: dict[str | None, tuple[LeftOut, ...]]


class LeftOutRecords:
    """The lines of all hosts."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._hosts: dict[str, _OfHost] = {}
        """By identity."""
        self._unidentified: dict[str, _OfHost] = {}
        """By name: lines of earlier versions and of manifests, which have no identity."""

    def load(self, connection: Connection) -> None:
        """Load the recorded lines, so that manifests keep those of hosts that are gone."""
        found: dict[tuple[str | None, str], dict[str | None, list[LeftOut]]] = {}
        for row in connection.execute(rows.left_out().order_by(schema.left_out.c.id)):
            of_host = found.setdefault((row.identity, row.host), {})
            of_host.setdefault(row.experiment_id, []).append(rows.left_out_of(row))
        for (identity, host), groups in found.items():
            self._add_lines(identity, host, groups)

    def _add_lines(self, identity: str | None, host: str, groups: Mapping[str | None, Iterable[LeftOut]]) -> None:
        known = self._unidentified if identity is None else self._hosts
        of_host = known.setdefault(identity or host, _OfHost(host, {}))
        of_host.name = host
        for experiment, entries in groups.items():
            of_host.lines[experiment] = (*of_host.lines.get(experiment, ()), *entries)

    def on(self, host: str, identity: str) -> dict[str | None, tuple[LeftOut, ...]]:
        """Return the recorded lines of a host by experiment."""
        unidentified, own = self._unidentified.get(host), self._hosts.get(identity)
        found = dict(unidentified.lines) if unidentified is not None else {}
        for experiment, entries in (own.lines if own is not None else {}).items():
            found[experiment] = (*found.get(experiment, ()), *entries)
        return found

    def of(self, experiment: str) -> list[tuple[str, LeftOut]]:
        """Return what is left out of an experiment, as (host, entry)."""
        hosts = sorted((*self._hosts.values(), *self._unidentified.values()), key=lambda each: each.name)
        return [(each.name, entry) for each in hosts for entry in each.lines.get(experiment, ())]

    async def save(
        self, host: str, identity: str, left_out: Lines, states: EntryStates | None = None
    ) -> set[str | None]:
        """Record what is left out on a host; return the experiments with changes.

        A recorded line that is not left out any more stays if `states` reports it as gone or unseen; without `states`
        it is replaced. Lines without an identity that have the host's name become this host's.
        """
        before, unidentified, own = self.on(host, identity), self._unidentified.get(host), self._hosts.get(identity)
        now = {experiment: entries for experiment, entries in left_out.items() if entries}
        if states is not None:
            now = kept_on_record(before, now, states, time.time())
        changed = {each for each in before.keys() | now.keys() if before.get(each) != now.get(each)}
        is_renamed = own is not None and own.name != host
        written = set(before.keys() | now.keys()) if is_renamed or unidentified is not None else changed
        if not written:
            return set()
        table = schema.left_out.c

        def change(connection: Connection) -> None:
            number = host_id(connection, identity, host)
            this_one = or_(table.host_id == number, and_(table.host_id.is_(None), table.host == host))
            for experiment in written:
                same = table.experiment_id.is_not_distinct_from(experiment)
                connection.execute(delete(schema.left_out).where(this_one, same))
            values = [
                row_of(host, number, experiment, each) for experiment in written for each in now.get(experiment, ())
            ]
            if values:
                connection.execute(insert(schema.left_out), values)

        await self._database.write(change)
        self._hosts[identity] = _OfHost(host, now)
        self._unidentified.pop(host, None)
        return written if is_renamed else changed

    def add_restored(self, lines: Iterable[tuple[str, str | None, LeftOut]]) -> None:
        """Add lines that were recorded elsewhere, as (host, experiment, entry), without an identity."""
        for host, experiment, entry in lines:
            self._add_lines(None, host, {experiment: (entry,)})


def row_of(host: str, number: int | None, experiment: str | None, entry: LeftOut) -> dict[str, Any]:
    """Return the columns of `left_out` for one line; `number` is the id of the host, None if it is unknown."""
    return {
        "host": host,
        "host_id": number,
        "experiment_id": experiment,
        "place": entry.place,
        "size": None if entry.size is None else rows.fitting(entry.size),
        "entries": rows.fitting(entry.entries),
        "reason": entry.reason,
        "gone_at": entry.gone_at,
    }
