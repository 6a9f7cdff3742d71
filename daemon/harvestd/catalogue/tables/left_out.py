"""Present and past skipped entries of hosts, by host identity, since names and addresses are reused."""

import time
from collections.abc import Iterable, Mapping
from typing import Any

from msgspec import Struct
from sqlalchemy import Connection, and_, delete, or_

from harvestd.catalogue import rows, schema
from harvestd.catalogue.engine import Database, insert
from harvestd.catalogue.references import host_id
from harvestd.convention.scan.model import LeftOut
from harvestd.planning.left_behind import Fates, Lines, kept_on_record


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
            self._learn(identity, host, groups)

    def _learn(self, identity: str | None, host: str, groups: Mapping[str | None, Iterable[LeftOut]]) -> None:
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

    async def save(self, host: str, identity: str, left_out: Lines, fates: Fates | None = None) -> set[str | None]:
        """Record what is left out on a host; return the experiments with changes.

        A recorded line that is not left out any more stays if `fates` reports it as gone or unseen; without `fates` it
        is replaced. Lines without an identity that have the host's name become this host's.
        """
        before, unidentified, own = self.on(host, identity), self._unidentified.get(host), self._hosts.get(identity)
        now = {experiment: entries for experiment, entries in left_out.items() if entries}
        if fates is not None:
            now = kept_on_record(before, now, fates, time.time())
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

    def learn(self, lines: Iterable[tuple[str, str | None, LeftOut]]) -> None:
        """Add lines that were recorded elsewhere, as (host, experiment, entry), without an identity."""
        for host, experiment, entry in lines:
            self._learn(None, host, {experiment: (entry,)})


def row_of(host: str, number: int | None, experiment: str | None, entry: LeftOut) -> dict[str, Any]:
    """Return the columns of `left_out` for one line; `number` is the id of the host, None if it is unknown."""
    return {
        "host": host,
        "host_id": number,
        "experiment_id": experiment,
        "place": entry.place,
        "size": None if entry.size is None else rows.fitting(entry.size),
        "entries": entry.entries,
        "reason": entry.reason,
        "gone_at": entry.gone_at,
    }
