"""Verdicts for processes outside the daemon: made on request, and stored in the catalogue.

The verdicts are computed elsewhere (`service`, in each host's own task). A stored verdict contains its time; an old
one says nothing about the present.

How long a verdict may take, by the configured limits: no waiting task gives up before one of its parts does. The
daemon names the part that took too long; a command that requests a verdict waits a little longer, so that it gets
this answer.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Final

import anyio
from msgspec.structs import replace

from harvestd.catalogue.entries import VerdictRecord
from harvestd.errors import DiskFull
from harvestd.harvest.context import Context
from harvestd.inventory.host import Host
from harvestd.planning.requests import REFUSED, Request, RequestKind
from harvestd.remote.api import Limits
from harvestd.safety.verdict import Verdict

_WAYS: Final = 2
"""Connect time-outs on the way to a host: its own, and one for a jump host."""
_BEGINNING: Final = 180.0
"""Seconds until a full scan can begin, behind the transfer that is in progress."""
_QUESTIONS: Final = 2
"""Queries of a verdict besides the trees, each at most `Limits.inspect_time`: circumstances, and targets of links."""
_MARGIN: Final = 30.0
"""Seconds for noticing a request, and for recording the answer."""


def connect_seconds(connect_timeout: timedelta, limits: Limits) -> float:
    """Return the seconds until a host is connected and read, or is known not to be."""
    return _WAYS * connect_timeout.total_seconds() + limits.answer_time.total_seconds()


def verdict_seconds(limits: Limits) -> float:
    """Return the seconds for a full verdict on a connected host."""
    return _BEGINNING + _QUESTIONS * limits.inspect_time.total_seconds() + limits.scan_time.total_seconds()


def answer_seconds(connect_timeout: timedelta, limits: Limits) -> float:
    """Return the seconds after which the daemon has answered a request for a verdict, whatever the host does."""
    return connect_seconds(connect_timeout, limits) + verdict_seconds(limits) + _MARGIN


_KEEP_EVERY = 1.0
"""Seconds between two rounds of storing what changed."""
_ANEW = 30.0
"""Seconds after which an unchanged verdict is stored again."""


class Verdicts:
    """Answers requests for verdicts, and stores the verdicts of one context."""

    def __init__(self, context: Context, host_of: Callable[[str], Host | None]) -> None:
        """`host_of` returns the host with an identity, None if there is none now."""
        self._context = context
        self._host_of = host_of
        self._kept: dict[str, VerdictRecord] = {}
        self._answering: set[int] = set()

    async def run(self) -> None:
        """Answer and store until cancelled. Raise `HaltedForSafety` if nothing can be stored."""
        await self._context.catalogue_opened.wait()
        async with anyio.create_task_group() as tasks:
            while True:
                requested_before = self._context.requests.verdict_requested.version
                for request in self._context.catalogue.knowledge.open_requests():
                    if request.kind is RequestKind.JUDGE and request.id not in self._answering:
                        self._answering.add(request.id)
                        tasks.start_soon(self._answer, request)
                with self._context.service_failures.containing("verdicts"):
                    await self._keep(self._due())
                with anyio.move_on_after(_KEEP_EVERY):
                    await self._context.requests.verdict_requested.wait(requested_before)

    async def _answer(self, request: Request) -> None:
        outcome = f"{REFUSED}it failed, and the daemon's events say how"
        try:
            with self._context.service_failures.containing("verdicts", host=request.place):
                outcome = await self.outcome(request.storage)
            # If there is no room to record the answer, the request stays open and is answered again.
            with self._context.service_failures.containing("verdicts", host=request.place):
                await self._context.requests.settle(request, outcome)
        finally:
            self._answering.discard(request.id)

    async def outcome(self, identity: str) -> str:
        """Return what a request for the verdict on a host is answered: the verdict, or why there is none."""
        host = self._host_of(identity)
        if host is None:
            return f"{REFUSED}no inventory lists it any more"
        await self._wait_for_first_scan(host)
        from harvestd.harvest.verdict.service import full_verdict  # noqa: PLC0415  (imported by the fleet)

        verdict = await full_verdict(host, self._context)
        if self._record(identity) is None:
            # Nothing would be stored, and the requester would read a verdict from long before.
            return f"{REFUSED}it went while it was looked at"
        if await self._keep([identity]):
            return str(verdict.answer)
        return f"{REFUSED}there is no room to write the verdict down"

    async def _wait_for_first_scan(self, host: Host) -> None:
        """Wait until a host that may be connecting is connected, or failed: before that its state is unknown.

        If its last attempt failed, the reason is known already.
        """
        context = self._context
        state = context.states.of(host.identity)
        with anyio.move_on_after(connect_seconds(context.target_of(host).connect_timeout, context.limits)):
            while state.verdict_service is None and state.verdict is None and state.unreadable is None:
                await context.signals.scanned.rung()

    def _due(self) -> list[str]:
        """Return the identities of the hosts whose stored verdict is out of date.

        Verdicts that were only made anew are stored together, once one of them is old.
        """
        due, anew, is_old = [], [], False
        for identity in self._context.states.identities():
            timed = self._context.states.of(identity).verdict
            if timed is None:
                continue
            kept, host = self._kept.get(identity), self._host_of(identity)
            if kept is not None and host is not None and kept.judged_at == timed.at:
                if kept.cents_per_hour != host.cents_per_hour:
                    due.append(identity)
                continue
            now = self._record(identity)
            if now is None:
                continue
            if kept is None or _lasting(kept) != _lasting(now):
                due.append(identity)
                continue
            anew.append(identity)
            is_old = is_old or now.judged_at - kept.judged_at >= _ANEW
        return due + anew if is_old else due

    async def _keep(self, identities: list[str]) -> bool:
        """Store these verdicts; return whether there was room."""
        records = [record for each in identities if (record := self._record(each)) is not None]
        with suppress(DiskFull):  # the transfers report the lack of room; the next round tries again
            await self._context.catalogue.verdicts.save(records, time.time())
            self._kept |= {record.identity: record for record in records}
            return True
        return False

    def _record(self, identity: str) -> VerdictRecord | None:
        host, timed = self._host_of(identity), self._context.states.of(identity).verdict
        if host is None or timed is None:
            return None
        return timed.record_of(host)


def _lasting(record: VerdictRecord) -> tuple[Verdict, bool, int | None]:
    """Return the part of a verdict that does not change by the passing of time alone."""
    verdict = record.verdict
    reasons = tuple(replace(reason, seconds=None) for reason in verdict.reasons)
    return replace(verdict, reasons=reasons), record.idle_since is None, record.cents_per_hour
