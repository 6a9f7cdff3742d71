"""The spool of notifications: what a person should learn of, and which receivers still have to get it.

A notification and its deliveries are recorded in one transaction before anything is sent, and a delivery is recorded as
made once its receiver has answered. So a process that is killed in between sends it again under the same key, and
nothing is lost.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, Select, func, select, update

from harvestd.catalogue import schema
from harvestd.catalogue.engine import Database, insert, sliced
from harvestd.catalogue.entries import Delivery, Episode, Notification
from harvestd.convention.structs import Immutable
from harvestd.json_text import json_text

Subject = tuple[str, str]
"""An event's name, and what it is about."""

_TABLE = schema.notifications.c
_MADE = schema.deliveries.c
_OPEN = (_MADE.delivered.is_(None), ~_MADE.dropped)
MOST = 1_000
"""Deliveries of one receiver that are read at a time."""


class Notifications:
    """The two tables of one catalogue."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def since(self, now: float) -> float:
        """Return from when on notifications are made, in Unix time: the first call sets it to `now`."""
        row = {"key": schema.ALARMED_SINCE, "value": repr(now)}
        statement = insert(schema.meta).values(row).on_conflict_do_nothing()
        await self._database.write(lambda connection: connection.execute(statement))
        query = select(schema.meta.c.value).where(schema.meta.c.key == schema.ALARMED_SINCE)
        return float(await self._database.read(lambda connection: connection.execute(query).scalar_one()))

    async def episodes(self) -> dict[Subject, Episode]:
        """Return the latest notification of each subject."""
        query = select(_TABLE.event, _TABLE.subject, _TABLE.created, _TABLE.ended).order_by(_TABLE.id)

        def read(connection: Connection) -> dict[Subject, Episode]:
            found: dict[Subject, Episode] = {}
            for event, subject, created, ended in connection.execute(query):
                before = found.get((event, subject))
                found[event, subject] = Episode(before.number + 1 if before else 1, created, ended)
            return found

        return await self._database.read(read)

    async def add(self, notifications: Sequence[Notification], receivers: Mapping[str, Collection[str]]) -> None:
        """Record notifications, each for the receivers of its event, in one transaction.

        One whose key is recorded already is left as it is.
        """

        def change(connection: Connection) -> None:
            for each in notifications:
                statement = insert(schema.notifications).values(_row(each)).on_conflict_do_nothing()
                number = connection.execute(statement.returning(_TABLE.id)).scalar()
                rows = [_new_delivery(number, receiver, each.created) for receiver in receivers.get(each.event, ())]
                if number is not None and rows:
                    connection.execute(insert(schema.deliveries), rows)

        await self._database.write(change)

    async def end(self, subjects: Collection[Subject], now: float) -> None:
        """Record that the conditions behind the latest notifications of these subjects have ended."""

        def change(connection: Connection) -> None:
            for event, subject in subjects:
                chosen = (_TABLE.event == event, _TABLE.subject == subject, _TABLE.ended.is_(None))
                connection.execute(update(schema.notifications).where(*chosen).values(ended=now))

        await self._database.write(change)

    async def open_deliveries(self, receiver: str) -> list[Delivery]:
        """Return the oldest deliveries to a receiver that are still to be made, `MOST` at most, oldest first."""
        query = (
            select(schema.notifications, _MADE.attempts, _MADE.next_try)
            .join(schema.deliveries, _MADE.notification_id == _TABLE.id)
            .where(_MADE.receiver == receiver, *_OPEN)
            .order_by(_TABLE.id)
            .limit(MOST)
        )
        return await self._database.read(
            lambda connection: [
                Delivery(_notification(row), row.attempts, row.next_try) for row in connection.execute(query)
            ]
        )

    async def delivered(self, receiver: str, ids: Sequence[int], at: float) -> None:
        """Record that a receiver has got these notifications."""
        await self._set(receiver, ids, {"delivered": at, "error": "", "attempts": _MADE.attempts + 1})

    async def failed(self, receiver: str, ids: Sequence[int], error: str, next_try: float) -> None:
        """Record a failed attempt, and when the next one is due."""
        await self._set(receiver, ids, {"error": error, "next_try": next_try, "attempts": _MADE.attempts + 1})

    async def drop(self, receiver: str, ids: Sequence[int]) -> None:
        """Record that deliveries are given up."""
        await self._set(receiver, ids, {"dropped": True})

    async def _set(self, receiver: str, ids: Sequence[int], values: Mapping[str, Any]) -> None:
        def change(connection: Connection) -> None:
            for some in sliced(ids):
                chosen = (_MADE.receiver == receiver, _MADE.notification_id.in_(some))
                connection.execute(update(schema.deliveries).where(*chosen).values(values))

        await self._database.write(change)

    async def adopt(self, receivers: Sequence[str]) -> None:
        """Apply a changed set of receivers.

        What a removed receiver has not got goes to one that was added in its place, of the same kind (the part of its
        name before the colon); without one it is dropped.
        """

        def change(connection: Connection) -> None:
            known = set(connection.execute(select(_MADE.receiver).distinct()).scalars())
            left = connection.execute(select(_MADE.receiver).where(*_OPEN).distinct()).scalars()
            added = [each for each in receivers if each not in known]
            for removed in sorted(set(left) - set(receivers)):
                heir = next((each for each in added if _kind(each) == _kind(removed)), None)
                values = {"dropped": True} if heir is None else {"receiver": heir}
                connection.execute(update(schema.deliveries).where(_MADE.receiver == removed, *_OPEN).values(values))
                added = [each for each in added if each != heir]

        await self._database.write(change)

    async def last_arrival(self, host: str) -> float | None:
        """Return when the last file of a host, by name, arrived here, in Unix time; None: none did."""
        query = select(func.max(schema.files.c.fetched_at)).where(schema.files.c.host == host)
        return await self._database.read(lambda connection: connection.execute(query).scalar())

    async def last_successes(self) -> dict[str, float]:
        """Return when each host was last read completely, by identity, in Unix time."""
        hosts = schema.hosts.c
        query = select(hosts.identity, hosts.last_success).where(hosts.last_success.is_not(None))
        return await self._database.read(lambda connection: _pairs(connection, query))


class Receipt(Immutable):
    """A notification, and how many receivers have got it."""

    notification: Notification
    receivers: int
    delivered: int
    dropped: int
    error: str
    """What a receiver that has not got it answered last."""


def latest(connection: Connection, limit: int) -> list[Receipt]:
    """Return the newest notifications, newest first."""
    query = (
        select(
            schema.notifications,
            func.count(_MADE.receiver).label("receivers"),
            func.count(_MADE.delivered).label("delivered"),
            func.coalesce(func.sum(_MADE.dropped), 0).label("dropped"),
            func.coalesce(func.max(_MADE.error), "").label("error"),
        )
        .outerjoin(schema.deliveries, _MADE.notification_id == _TABLE.id)
        .group_by(_TABLE.id)
        .order_by(_TABLE.id.desc())
        .limit(limit)
    )
    return [
        Receipt(_notification(row), row.receivers, row.delivered, row.dropped, row.error)
        for row in connection.execute(query)
    ]


def waiting(connection: Connection) -> dict[str, int]:
    """Return how many notifications each receiver has not got yet, if any."""
    query = select(_MADE.receiver, func.count()).where(*_OPEN).group_by(_MADE.receiver)
    return _pairs(connection, query)


def _pairs(connection: Connection, query: Select[tuple[str, Any]]) -> dict[str, Any]:
    return {row[0]: row[1] for row in connection.execute(query)}


def _kind(receiver: str) -> str:
    return receiver.partition(":")[0]


def _row(each: Notification) -> dict[str, Any]:
    return {
        "key": each.key,
        "event": each.event,
        "subject": each.subject,
        "payload": json_text(dict(each.payload)),
        "created": each.created,
    }


def _new_delivery(number: int | None, receiver: str, at: float) -> dict[str, Any]:
    return {
        "notification_id": number,
        "receiver": receiver,
        "attempts": 0,
        "next_try": at,
        "dropped": False,
        "error": "",
    }


def _notification(row: Row[Any]) -> Notification:
    return Notification(row.key, row.event, row.subject, json.loads(row.payload), row.created, row.id)
