"""The daemon's loop for one connected host: scan, execute the plan, compute the verdict, wait for news.

A host that scans by itself sends a small report where nothing changed. While the plan holds, this costs next to nothing
here: what time alone requires is done rarely. The loop ends with the connection.

Decides when a scan of a host must be requested: rarely, while the host scans by itself and reports it. What a host
reports may be incomplete or invented, and its program may fail. So a scan is requested from time to time whatever it
reports, and as soon as the reports of its own scans are overdue.
"""

import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, nullcontext
from enum import Enum, auto
from functools import partial
from itertools import chain
from typing import Final

import anyio

from harvestd.convention.kinds import Value
from harvestd.errors import unwrapped
from harvestd.harvest.context import Context
from harvestd.harvest.host.executor import Executor
from harvestd.harvest.host.health import IdleDetector
from harvestd.harvest.sync import Broadcast, first_of
from harvestd.harvest.verdict.evidence import EvidenceCollector
from harvestd.harvest.verdict.service import VerdictService
from harvestd.inventory.host import Host
from harvestd.planning.plan import Check, FetchGroup, Follow, Plan
from harvestd.remote.api import REST_PER_SCAN, WHOLE_EVERY, Box, BoxFacts
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_INTERVALS: Final = 2
"""Intervals without a report after which a scan is requested, beyond the time in which the host may rest."""
_SCANS: Final = REST_PER_SCAN + 2
"""The same in durations of the last scan."""


class ScanSchedule:
    """Tracks the scans of one connected host; all times are monotonic seconds."""

    def __init__(self) -> None:
        self._requested = 0.0
        """When the last requested scan ended."""
        self._reported = 0.0
        """When the host last reported a scan of all trees, or that it goes on."""
        self._duration = 0.0
        self._began = 0.0
        self.interval = 0.0
        """Seconds between two scans."""
        self.scans_itself = False
        """Whether the host scans by itself in each interval."""

    def requested(self, began: float, duration: float) -> None:
        """Note the end of a requested scan that took so many seconds; `began`: see `Box.last_scan_began`."""
        self._requested = self._reported = time.monotonic()
        self._began, self._duration = began, duration

    def pushed(self, began: float) -> None:
        """Note what the host pushed: only a scan of all its trees counts."""
        if began > self._began:
            self._began, self._reported = began, time.monotonic()

    def reported(self, duration: float | None = None) -> None:
        """Note that the host scanned by itself and found nothing, or (without `duration`) that it is still scanning."""
        self._reported = time.monotonic()
        if duration is not None:
            self._duration = duration

    @property
    def due(self) -> float:
        """When the next scan must be requested."""
        if not self.scans_itself:
            return self._requested + self.interval
        overdue = self._reported + _INTERVALS * self.interval + _SCANS * self._duration
        return min(overdue, self._requested + max(self.interval, WHOLE_EVERY))


Scan = Callable[[], Awaitable[Plan]]
Passed = Callable[[int], Awaitable[None]]
"""Called after each whole pass with the number of bytes that are wanted and not here yet."""

_IMPATIENCE = 1.0
"""Seconds between two scans while a person waits for a request."""
_BREATH = 0.05
"""Seconds added to a waiting time, so that it is certainly over; the least time between two reports of a host."""
_SPACING = 0.15
"""Seconds from the beginning of the work on one push to that on the next, so that what a busy writer adds meanwhile is
worked on together. A host on which nothing happened just before does not wait."""
_SHARE = 8.0
"""The least wait before the next push as a multiple of the time that the last one took to process …"""
_LONGEST_SPACING = 0.5
"""… and the most seconds that are waited for this reason."""
REVIEW_EVERY = 3
"""Intervals between two reviews of a host on which nothing changes."""


class WakeReason(Enum):
    """Why a wait between two scans ended."""

    PUSHED = auto()
    """The host pushed a change, or its plan has to be made anew."""
    STILL = auto()
    """The host scanned by itself, nothing has changed, and a review is due."""
    NONE = auto()
    """A scan is due, or was requested."""


class HostLoop:
    """Works on one host for as long as its connection lasts."""

    def __init__(self, host: Host, context: Context, root: DataRoot, box: Box, facts: BoxFacts) -> None:
        """Start without the state of earlier connections: what a host showed before it was lost proves nothing."""
        self._context = context
        self._host = host
        self._box = box
        self._storage = context.storage_of(host)
        self._work = Executor(host, context, root, box, facts)
        self._observer = self._work.observer
        self._idling = IdleDetector(host, context, box)
        self._verdicts = VerdictService(
            host, context, EvidenceCollector(host, context, root, box, self._observer), self._transfers
        )
        self._schedule = ScanSchedule()
        self._was_busy = False
        """Whether large files were being fetched when the last plan was made: what they leave may have to go."""
        self._is_first = True
        """Whether nothing was planned after the first pass yet."""
        self._reviewed = 0.0
        """When everything that depends on time was last computed, in monotonic seconds."""
        self._begun = 0.0
        """When the last plan was begun, in monotonic seconds."""

    def _transfers(self) -> int:
        return int(self._work.bulk.busy)

    async def watch(self, scan_now: Broadcast, passed: Passed) -> None:
        """Scan and work until the link is lost (`Retry`) or the host breaks a rule (`HostQuarantined`)."""
        with self._verdicts.kept(), unwrapped(), self._work.shown():
            beginning = self._work.begins()
            while True:
                await self._wait_for_lease(scan_now)
                with self._context.leases.held(self._storage, self._host.identity):
                    async with self._work.fetching_large_files():
                        await self._lead(scan_now, passed, beginning)
                beginning = nullcontext()

    async def _lead(self, scan_now: Broadcast, passed: Passed, beginning: AbstractAsyncContextManager[object]) -> None:
        """Scan and execute the plans, until another host of the storage shows more than this one."""
        scan: Scan = self._observer.scan
        while True:
            requested_before = scan_now.version
            self._schedule.interval = self._interval
            self._schedule.scans_itself = self._box.scan_every(self._interval)
            async with beginning:
                self._begun, self._was_busy = time.monotonic(), self._work.bulk.busy
                plan = await self._work.process_scan(scan)
                if self._observer.shared.is_superseded:
                    return
                await self._verdicts.before_work(plan, self._work.scan_all)
                await self._work.do(plan)
            beginning = nullcontext()
            await self._work.follow_names(plan, self._context.settings.poll.settle.total_seconds())
            self._log_polled(time.monotonic() - self._begun)
            await passed(_pending(plan))
            await self._verdicts.consider(plan, self._work.scan_all)
            await self._work.stalling.check(self._observer)
            await self._idling.update(self._observer.snapshot)
            plan = await self._rested(plan)
            self._reviewed = time.monotonic()
            if scan == self._observer.scan:
                self._schedule.requested(self._box.last_scan_began, self._observer.scan_took)
            else:
                self._schedule.pushed(self._box.last_scan_began)
            scan = await self._next(scan_now, requested_before, plan, passed)

    async def _next(self, scan_now: Broadcast, requested_before: int, plan: Plan, passed: Passed) -> Scan:
        """Wait until something has to be done, and return what gives the next plan: a scan, or what was pushed."""
        while True:
            reason = await self._wait_for_reason(scan_now, requested_before, plan)
            state = self._context.states.of(self._host.identity)
            is_requested, state.wants_scan = state.wants_scan, False
            # Pushes may be incomplete: they do not postpone a scan.
            if reason is WakeReason.NONE or is_requested or time.monotonic() >= self._schedule.due:
                return self._observer.scan
            if reason is WakeReason.PUSHED:
                return self._observer.take_reports
            await self._review(plan, passed)

    async def _review(self, plan: Plan, passed: Passed) -> None:
        """Do what time alone requires while nothing changes and the plan holds."""
        snapshot = self._observer.snapshot
        await passed(_pending(plan))
        await self._verdicts.consider(plan, self._work.scan_all)
        await self._work.stalling.check(self._observer)
        if self._observer.snapshot is snapshot:
            await self._idling.query()
        else:
            await self._idling.update(self._observer.snapshot)
        await self._rested(plan)
        self._reviewed = time.monotonic()

    async def _rested(self, plan: Plan) -> Plan:
        """Drop what is in memory of a host on which nothing is to be done; return the newest plan.

        After the first scan, plan again at once: when a daemon starts, all hosts are new, and what each of them brought
        would be in memory at the same time.
        """
        if self._work.bulk.busy:
            return plan
        if self._is_first and plan.groups and not plan.waiting:
            plan = await self._work.process_scan(self._observer.plan_again)
        self._is_first = False
        await self._observer.rest(plan)
        return plan

    @property
    def _interval(self) -> float:
        """Seconds from the end of the work after one scan to the next scan."""
        return self._context.settings.poll.interval.total_seconds()

    @property
    def _spacing(self) -> float:
        """Seconds to wait before the next push is processed.

        Pushes use little of the time, and never more than half of it: what takes long to process, since the host has
        many directories, is processed less often.
        """
        took = self._observer.took
        return max(took, min(_LONGEST_SPACING, _SHARE * took), self._begun + _SPACING - time.monotonic())

    async def _wait_for_lease(self, scan_now: Broadcast) -> None:
        """Return when the lease of the storage is free; until then only scan, and compute verdicts.

        The lease stays free until the next await.
        """
        released = self._context.leases.released
        # Each of the storage's hosts that waits is scanned on request.
        self._box.scan_every(None)
        while not self._may_lead():
            given_up, requested_before = released.version, scan_now.version
            with anyio.move_on_after(self._interval):
                await first_of(
                    partial(released.wait, given_up), self._verdicts.requested, partial(scan_now.wait, requested_before)
                )
            if self._may_lead():
                return
            plan = await self._observer.scan()
            await self._context.requests.record_scan(self._host.name, plan.request_states)
            await self._verdicts.consider(plan, self._observer.scan_all)

    def _may_lead(self) -> bool:
        return self._context.leases.is_free(self._storage) and not self._observer.shared.is_superseded

    def _pause(self, plan: Plan) -> float:
        """Return the seconds until the next scan, if there is no news before."""
        planned: tuple[Iterable[FetchGroup | Check | Follow], ...] = (plan.groups, plan.checks, plan.follows)
        places = (each.place for each in chain.from_iterable(planned))
        next_try = self._work.failures.next_try(places, self._begun)
        due = [each for each in (plan.next_due, next_try) if each is not None]
        pause = min([self._schedule.due - time.monotonic(), *(each + _BREATH for each in due)])
        return max(_BREATH, min(pause, _IMPATIENCE) if self._is_waited_for(plan) else pause)

    async def _wait_for_reason(self, scan_now: Broadcast, requested_before: int, plan: Plan) -> WakeReason:
        """Wait until there is a reason to scan again, or to do anything else."""
        reason, pause = WakeReason.NONE, self._pause(plan)
        pausing = f"the pause between two looks at {self._host.name}"
        with self._context.deadlines.within(pause, pausing) as renew, anyio.move_on_after(pause) as waiting:

            async def listen() -> None:
                nonlocal reason
                await anyio.sleep(self._spacing)
                await self._box.changed()
                reported = 0.0
                while self._holds():
                    if time.monotonic() - self._reviewed >= REVIEW_EVERY * self._interval:
                        reason = WakeReason.STILL
                        return
                    pause = self._pause(plan)
                    renew(pause)
                    waiting.deadline = anyio.current_time() + pause
                    last, reported = reported, time.monotonic()
                    if reported - last < _BREATH:
                        await anyio.sleep(_BREATH)
                    await self._box.changed()
                reason = WakeReason.PUSHED

            await first_of(listen, self._verdicts.requested, partial(scan_now.wait, requested_before))
        return reason

    def _holds(self) -> bool:
        """Process what the host reported; return whether nothing changed there and the last plan holds."""
        scans = self._box.own_scans()
        if scans is None:
            return False
        if not scans:
            self._schedule.reported()
            return True
        for scan in scans:
            self._schedule.reported(scan.duration)
            self._log_polled(scan.duration)
        holds = self._observer.plan_unchanged(scans) is not None
        return holds and not (self._was_busy or self._work.bulk.busy)

    def _log_polled(self, seconds: float) -> None:
        self._context.monitor.polled(self._host.name, seconds)
        get_logger().debug(Event.HOST_POLLED, host=self._host.name, duration_seconds=round(seconds, 4))

    def _is_waited_for(self, plan: Plan) -> bool:
        """Return whether something that a person requested, and waits for, can be fetched now."""
        by_hand = (group for group in plan.groups if group.not_before is Value.BY_HAND)
        return any(self._work.failures.may_try(group.place) for group in by_hand)


def _pending(plan: Plan) -> int:
    return plan.bytes_to_fetch + sum(wait.size for wait in plan.waiting)
