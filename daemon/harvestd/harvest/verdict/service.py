"""Verdicts on one host: kept by the task that watches it, cheap after each scan, and in full on demand.

A full verdict costs the host a scan of every entry. So it is only computed when nothing else speaks against safety, or
on request; in between, the regular scans show why the host is not safe.

The newest verdict on a host and its age. A plain value: display its age along with it, and check it before acting.

`HostState.verdict` is the newest verdict on a host with its age; `verdict.service` updates it.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

import anyio

from harvestd.harvest.context import Context
from harvestd.harvest.fleet.connections import connected
from harvestd.harvest.host.observer import Observer
from harvestd.harvest.state import Judged
from harvestd.harvest.sync import Broadcast
from harvestd.harvest.verdict import requests
from harvestd.harvest.verdict.evidence import EvidenceCollector, ScanAll, accepted
from harvestd.inventory.host import Host
from harvestd.planning.plan import Plan
from harvestd.safety.check import judge
from harvestd.safety.inputs import Evidence
from harvestd.safety.verdict import Loss, Reason, ReasonKind, Verdict, VerdictAnswer, document_of
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_AT_LEAST: Final = 60.0
_AT_MOST: Final = 600.0
"""Seconds between two full verdicts that were not requested …"""
_SHARE: Final = 20.0
"""… and this many times the duration of the last one."""
_AT_WORK: Final = frozenset(
    {ReasonKind.NOT_CONNECTED, ReasonKind.RUNNING, ReasonKind.GPU_BUSY, ReasonKind.NOT_QUIET, ReasonKind.TRANSFERS}
)
"""Reasons for which a host does not count as idle."""
_UNSEEN: Final = frozenset({ReasonKind.NOT_LOOKED_AT, ReasonKind.RUNNING})
"""Reasons that a full verdict may remove: a cheap one does not query which runs still have a process."""


class VerdictRequest:
    """A pending request for a verdict."""

    def __init__(self) -> None:
        self._answered = anyio.Event()
        self._verdict = judge(Evidence())

    def answer(self, verdict: Verdict) -> None:
        """Answer the request with the verdict."""
        self._verdict = verdict
        self._answered.set()

    async def answered(self) -> Verdict:
        """Return the verdict once the request is answered."""
        await self._answered.wait()
        return self._verdict


class VerdictService:
    """Computes the verdicts on one connected host, in the task that works on it."""

    def __init__(
        self, host: Host, context: Context, gathering: EvidenceCollector, transfers: Callable[[], int]
    ) -> None:
        """`transfers` returns the number of transfers in progress."""
        self._host = host
        self._context = context
        self._gathering = gathering
        self._transfers = transfers
        self._requests: list[VerdictRequest] = []
        self._rung = Broadcast()
        self._due = 0.0
        """When a full verdict may be made without a request, in monotonic seconds."""

    async def request(self) -> Verdict:
        """Request a full verdict, and return it."""
        request = VerdictRequest()
        self._requests.append(request)
        self._rung.ring()
        return await request.answered()

    async def requested(self) -> None:
        """Return once a verdict is requested."""
        if not self._requests:
            await self._rung.rung()

    async def before_work(self, plan: Plan, scan_all: ScanAll) -> None:
        """Answer requests, and withdraw a safe verdict that this scan contradicts, before the work begins.

        The work may take long. Raise as a scan does.
        """
        await self._gathering.recognise()
        if self._requests:
            await self.answer(scan_all)
        elif self._is_safe():
            evidence = await self._gathering.cheap(plan, self._transfers())
            verdict = judge(evidence)
            if not _needs_full_scan(verdict):
                record(self._host, self._context, verdict, evidence.still_since)

    def _is_safe(self) -> bool:
        newest = self._context.states.of(self._host.identity).verdict
        return newest is not None and newest.verdict.answer is not VerdictAnswer.NOT_SAFE

    async def consider(self, plan: Plan, scan_all: ScanAll) -> None:
        """Update the verdict by the scan that gave `plan`; make a full one, with `scan_all`, if it is due.

        Raise as a scan does.
        """
        evidence = await self._gathering.cheap(plan, self._transfers())
        verdict = judge(evidence)
        if self._requests or (_needs_full_scan(verdict) and time.monotonic() >= self._due):
            await self.answer(scan_all)
        elif not _needs_full_scan(verdict):
            record(self._host, self._context, verdict, evidence.still_since)

    async def answer(self, scan_all: ScanAll) -> None:
        """Make a full verdict, with `scan_all`; answer the requests and record it. Raise as a scan does."""
        requested, began = tuple(self._requests), time.monotonic()
        evidence = await self._gathering.whole(scan_all, self._transfers)
        verdict = judge(evidence)
        took = time.monotonic() - began
        least = min(_AT_LEAST, max(1.0, evidence.idle_for))
        self._due = time.monotonic() + max(least, min(_AT_MOST, _SHARE * took))
        record(self._host, self._context, verdict, evidence.still_since)
        for request in requested:
            self._requests.remove(request)
            request.answer(verdict)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Register for verdict requests for the body; on exit, answer pending requests with "not watched"."""
        self._context.states.of(self._host.identity).verdict_service = self
        try:
            yield
        finally:
            self._context.states.of(self._host.identity).verdict_service = None
            verdict = not_watched(self._context, self._host.identity)
            record(self._host, self._context, verdict)
            while self._requests:
                self._requests.pop().answer(verdict)


def _needs_full_scan(verdict: Verdict) -> bool:
    """Return whether the only objections of a cheap verdict are those that a full one may remove."""
    return all(reason.kind in _UNSEEN and reason.seconds == 0.0 for reason in verdict.reasons)


def not_watched(context: Context, identity: str) -> Verdict:
    """Return the verdict on a host that is not being read, with the reason if it is known."""
    return judge(Evidence(accepted=accepted(context), unreadable=context.states.of(identity).unreadable or ""))


def record(host: Host, context: Context, verdict: Verdict, still_since: float | None = None) -> None:
    """Store a verdict that was made now, and log when a host became safe.

    `still_since`: the moment of the last change there, in monotonic seconds, if known.
    """
    now = time.time()
    if any(reason.kind in _AT_WORK for reason in verdict.reasons):
        still_since = None
    idle_since = None if still_since is None else now - (time.monotonic() - still_since)
    before = context.states.of(host.identity).verdict
    context.states.of(host.identity).verdict = Judged(verdict, now, idle_since, still_since)
    if verdict.is_safe and not (before is not None and before.verdict.is_safe):
        losses = [_shown(loss) for loss in verdict.losses]
        get_logger().info(
            Event.HOST_DRAINED,
            host=host.name,
            verdict=str(verdict.answer),
            losses=losses,
            verdict_document=document_of(verdict),
        )


def _shown(loss: Loss) -> str:
    size = "of unknown size" if loss.size is None else f"{loss.size} bytes"
    return f"{loss.kind}: {loss.what} ({size})"


async def full_verdict(host: Host, context: Context) -> Verdict:
    """Make a full scan of a host, connected or not, and return its verdict, which is also stored in its `HostState`.

    A host that is not being watched is not safe, nor is one that can't be scanned within `requests.verdict_seconds`.
    """
    service = context.states.of(host.identity).verdict_service
    if service is None:
        verdict = not_watched(context, host.identity)
    else:
        seconds = requests.verdict_seconds(context.limits)
        with anyio.move_on_after(seconds):
            return await service.request()
        detail = (
            f"no whole scan came to an end within {seconds:.0f} s; limits.scan_time says how long one may take, and "
            "limits.inspect_time how long what is asked beside it"
        )
        why = Reason(ReasonKind.NOT_LOOKED_AT, detail)
        verdict = Verdict(VerdictAnswer.NOT_SAFE, (why,), accepted=accepted(context))
    record(host, context, verdict)
    return verdict


async def verdict_without_daemon(host: Host, context: Context, root: DataRoot) -> Verdict:
    """Connect to a host that is not watched, scan it once, and return the verdict: never safe, but with all reasons.

    Fetches nothing. Raise `Retry` and `HostQuarantined` if the host can't be read.
    """
    async with connected(host, context) as (box, facts):
        await context.catalogue_opened.wait()
        observer = Observer(host, context, box, facts)
        await observer.scan()
        gathering = EvidenceCollector(host, context, root, box, observer)
        return judge(await gathering.whole(observer.scan_all, lambda: 0))
