"""Request a verdict from the process that holds the data root, and wait for a safe one.

It reads the catalogue and writes one request. The answer comes from a daemon, or from this process itself where
`harvest.host.passes` makes it one; the protocol is the same.
"""

import math
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from typing import Final

import anyio
import anyio.to_thread

from harvestd.catalogue import queries
from harvestd.catalogue.entries import VerdictRecord
from harvestd.catalogue.requests import record_request
from harvestd.cli.daemon import daemon_pid, holder_of
from harvestd.cli.output import units, verdict_page
from harvestd.cli.requests import Line
from harvestd.convention.structs import Immutable
from harvestd.errors import ExitCode, Fatal
from harvestd.harvest.context import limits_of
from harvestd.harvest.host.passes import Found, find_hosts, verdict_of_one_scan, watching_alone
from harvestd.harvest.verdict.requests import answer_seconds
from harvestd.inventory.providers import StaticHosts
from harvestd.planning.requests import REFUSED, Request, RequestKind
from harvestd.safety.verdict import Reason, ReasonKind, Verdict, VerdictAnswer
from harvestd.settings import Settings
from harvestd.store.lock import Held
from harvestd.telemetry.sanitize import escaped

_LISTEN_EVERY: Final = 0.2
_CHECK_EVERY: Final = 1.0
"""Seconds between two queries of the catalogue: for an answer, and for a verdict that changed."""
_ANEW: Final = 300.0
_SOON: Final = 2.0
"""Seconds between two requests: at most, and at least."""
_LOCK_AGAIN: Final = 0.5
"""Seconds between two checks of which process holds the data root."""
_LAST_SCAN: Final = 10.0
"""Seconds for a full scan that began just before the time was over."""
_UNTAKEN: Final = 30.0
"""Seconds within which a daemon, even one that is starting, reads a request."""
_RESTARTING: Final = 30.0
"""Seconds within which a daemon that ended may restart."""


class Subject(Immutable):
    """The host that a verdict is requested for."""

    settings: Settings
    name: str
    identity: str

    @property
    def longest(self) -> float:
        """Seconds after which a daemon has answered a request about the host."""
        tables = (table.connect_timeout for table in self.settings.hosts if table.name == self.name)
        connect_timeout = max(filter(None, tables), default=self.settings.ssh.connect_timeout)
        return answer_seconds(connect_timeout, limits_of(self.settings))


def subject_of(settings: Settings, name: str) -> Subject:
    """Return the host called `name`: a configured one, one seen before, or one that the cloud lists now.

    Raise `Fatal`: 4 for an unknown name, 10 where the cloud does not answer whether it exists.
    """
    if any(table.name == name for table in settings.hosts):
        return Subject(settings, name, f"{StaticHosts.name}:{name}")
    with queries.questions(settings.state) as connection:
        seen = [row.identity for row in queries.hosts(connection) if row.name == name]
    if seen:
        return Subject(settings, name, seen[0])
    found = anyio.run(find_hosts, settings, [name])
    if not found.hosts:
        raise _unknown_host(found)
    return Subject(settings, name, found.hosts[0].identity)


def _unknown_host(found: Found) -> Fatal:
    why = found.failures[0]
    return Fatal(str(why), hint=why.hint, exit_code=ExitCode.NOT_SAFE)


@asynccontextmanager
async def attended(subject: Subject, line: Line, limit: timedelta) -> AsyncIterator[None]:
    """Have requests answered during the body: by the running daemon, or by this process for this host alone.

    A command that holds the data root, such as `once`, answers none and ends by itself: wait for that. Raise `Held`
    where it has not ended within `limit`.
    """
    end = time.monotonic() + limit.total_seconds()
    async with AsyncExitStack() as stack:
        while True:
            found = await anyio.to_thread.run_sync(holder_of, subject.settings)
            if found is not None and found.answers:
                break
            try:
                await stack.enter_async_context(watching_alone(subject.settings, subject.name))
                break
            except Held:
                if time.monotonic() >= end:
                    raise
            line.say(f"{subject.name}: a command holds the data root; waiting for its end")
            await anyio.sleep(_LOCK_AGAIN)
        yield


async def verdict_alone(subject: Subject, line: Line) -> VerdictRecord:
    """Scan a host once, where no daemon runs. Raise `Fatal`: 7 where one started meanwhile, or as `subject_of`."""
    found = await find_hosts(subject.settings, [subject.name])
    if not found.hosts:
        raise _unknown_host(found)
    host = found.hosts[0]
    line.say(f"{subject.name}: a full scan is made")
    verdict = await verdict_of_one_scan(subject.settings, host)
    return VerdictRecord(host.identity, host.name, verdict, time.time(), cents_per_hour=host.cents_per_hour)


async def verdict_now(subject: Subject, line: Line, most: float = math.inf) -> VerdictRecord:
    """Request a verdict with a full scan, and wait for it, within `most` seconds and the limits of a host.

    Return *not safe* where none came in that time. Raise `Fatal` (7) where the process that should answer has ended.
    """
    settings, began = subject.settings, time.monotonic()
    longest = min(most, subject.longest)
    key = (subject.identity, subject.name)
    number = await anyio.to_thread.run_sync(lambda: record_request(settings.state, RequestKind.JUDGE, key, {}))
    presence = _Presence(settings)
    while True:
        request, record = await anyio.to_thread.run_sync(_answer, subject, number)
        passed = time.monotonic() - began
        if request is not None and not request.is_open:
            refused = request.outcome.removeprefix(REFUSED) if request.is_refused else ""
            if refused or record is None or record.judged_at < request.asked_at:
                return _unknown(subject, record, refused or "no verdict was kept since it was asked for")
            return record
        left = longest - passed
        if left <= 0:
            return _unknown(subject, record, f"no answer came within {units.duration(longest)}")
        if passed > _UNTAKEN and request is not None and request.taken_at is None:
            return _unknown(subject, record, await anyio.to_thread.run_sync(_why_untaken, settings))
        await anyio.to_thread.run_sync(presence.check)
        line.say(f"{subject.name}: a full scan is made, {units.duration(passed)}")
        await anyio.sleep(min(_LISTEN_EVERY, left))


async def verdict_when_safe(subject: Subject, line: Line, limit: timedelta) -> VerdictRecord:
    """Return a verdict that is safe, made with a full scan; or the last one when the time is over.

    In between only read what the daemon publishes anyway. Raise as `verdict_now`.
    """
    end = time.monotonic() + limit.total_seconds()
    record = await verdict_now(subject, line, limit.total_seconds())
    while not record.verdict.is_safe:
        left = max(0.0, end - time.monotonic())
        newest = await _worth_asking(subject, record, line, min(left, _pause(record.verdict)))
        left = end - time.monotonic()
        if left <= 0 and not newest.verdict.is_safe:
            return newest
        # A verdict that has become safe is worth a few more seconds.
        record = await verdict_now(subject, line, max(_LAST_SCAN, left))
    return record


async def _worth_asking(subject: Subject, record: VerdictRecord, line: Line, pause: float) -> VerdictRecord:
    """Return the newest verdict after `pause` seconds, or earlier when the daemon's verdict becomes safe."""
    presence = _Presence(subject.settings)
    end = time.monotonic() + pause
    newest, asked = record, record.judged_at
    while True:
        left = end - time.monotonic()
        if left <= 0 or (newest.verdict.is_safe and newest.judged_at > asked):
            return newest
        line.say(_progress(newest))
        await anyio.sleep(min(_CHECK_EVERY, left))
        await anyio.to_thread.run_sync(presence.check)
        found = await anyio.to_thread.run_sync(_newest, subject)
        newest = newest if found is None else found


def _pause(verdict: Verdict) -> float:
    """Return the seconds after which a full scan may give another answer, as far as known."""
    left = math.inf if verdict.left is None else verdict.left.total_seconds()
    return min(_ANEW, max(_SOON, left))


def _progress(record: VerdictRecord) -> str:
    left = record.verdict.left
    passed = time.time() - record.judged_at
    about = "" if left is None else f", about {units.duration(max(1.0, left.total_seconds() - passed))}"
    return escaped(f"{record.name}: {verdict_page.short(record.verdict)}{about}")


def _newest(subject: Subject) -> VerdictRecord | None:
    with queries.questions(subject.settings.state) as connection:
        return queries.verdict_on(connection, subject.identity)


def _answer(subject: Subject, number: int) -> tuple[Request | None, VerdictRecord | None]:
    """Return the request's state, and the newest verdict."""
    with queries.questions(subject.settings.state) as connection:
        request = queries.request(connection, number)
        record = queries.verdict_on(connection, subject.identity)
    return request, record


def unattended(subject: Subject, held: Held) -> VerdictRecord:
    """Return the verdict for a host that no process could judge, because a command held the data root."""
    return _unknown(subject, None, f"{held} ({held.hint})")


def _unknown(subject: Subject, record: VerdictRecord | None, why: str) -> VerdictRecord:
    """Return the verdict for a host on which none could be made."""
    verdict = Verdict(VerdictAnswer.NOT_SAFE, (Reason(ReasonKind.NOT_LOOKED_AT, why or "no answer came"),))
    cents = record.cents_per_hour if record else None
    return VerdictRecord(subject.identity, subject.name, verdict, time.time(), cents_per_hour=cents)


def _why_untaken(settings: Settings) -> str:
    """Return why no process has read a request."""
    holder = holder_of(settings)
    if holder is not None and not holder.answers:
        return f"process {holder.pid} is a command at work on the data root, such as `once`, and takes no questions"
    seconds = f"{_UNTAKEN:g} s"
    return f"the daemon took no notice of the question within {seconds}: it starts, or is stuck; see `harvestd status`"


class _Presence:
    """Detects that no process holds the data root any more."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._seen = time.monotonic()

    def check(self) -> None:
        """Raise `Fatal` (7) where no process has held it for a while: a daemon may be restarting."""
        if daemon_pid(self._settings) is not None:
            self._seen = time.monotonic()
        elif time.monotonic() - self._seen > _RESTARTING:
            raise Fatal(
                "the daemon ended before it answered",
                hint="`harvestd run` starts it; without one this command looks for itself",
                exit_code=ExitCode.LOCKED,
            )
