"""The daemon's loop for one connected host: scan, execute the plan, compute the verdict, wait for news.

It ends with the connection.
"""

import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager, nullcontext
from functools import partial

import anyio

from harvestd.convention.kinds import Value
from harvestd.errors import unwrapped
from harvestd.harvest.context import Context
from harvestd.harvest.host.executor import Executor
from harvestd.harvest.host.idle import IdleDetector
from harvestd.harvest.sync import Broadcast, first_of
from harvestd.harvest.verdict.evidence import EvidenceCollector
from harvestd.harvest.verdict.service import VerdictService
from harvestd.inventory.host import Host
from harvestd.planning.plan import Plan
from harvestd.remote.api import Box, BoxFacts
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

Passed = Callable[[int], Awaitable[None]]
"""Called after each whole pass with the number of bytes that are wanted and not here yet."""

_IMPATIENCE = 1.0
"""Seconds between two scans while a person waits for a request."""
_BREATH = 0.05
"""Seconds added to a waiting time, so that it is certainly over."""


class HostLoop:
    """Works on one host for as long as its connection lasts."""

    def __init__(self, host: Host, context: Context, root: DataRoot, box: Box, facts: BoxFacts) -> None:
        """Start without the state of earlier connections: what a host showed before it was lost proves nothing."""
        self._context = context
        self._host = host
        self._box = box
        self._storage = context.storage_of(host)
        self._work = Executor(host, context, root, box, facts)
        self._looking = self._work.looking
        self._idling = IdleDetector(host, context, box)
        self._judging = VerdictService(
            host, context, EvidenceCollector(host, context, root, box, self._looking), self._transfers
        )
        self._scan_due = 0.0
        """When the next scan is due, in monotonic seconds, whatever the host pushes."""

    def _transfers(self) -> int:
        return int(self._work.bulk.busy)

    async def watch(self, scan_now: Broadcast, passed: Passed) -> None:
        """Scan and work until the link is lost (`Retry`) or the host breaks a rule (`HostQuarantined`)."""
        with self._judging.kept(), unwrapped(), self._work.shown():
            beginning = self._work.begins()
            while True:
                await self._wait_for_lease(scan_now)
                with self._context.harvesting.held(self._storage, self._host.identity):
                    async with self._work.under_way():
                        await self._lead(scan_now, passed, beginning)
                beginning = nullcontext()

    async def _lead(self, scan_now: Broadcast, passed: Passed, beginning: AbstractAsyncContextManager[None]) -> None:
        """Scan and execute the plans, until another host of the storage shows more than this one."""
        look = self._looking.look
        while True:
            asked_before, is_scan = scan_now.version, look == self._looking.look
            async with beginning:
                started = time.monotonic()
                plan = await self._work.seen(look)
                if self._looking.is_outseen:
                    return
                await self._judging.before_work(plan, self._work.look_whole)
                await self._work.do(plan)
            beginning = nullcontext()
            await self._work.follow_names(plan, self._context.settings.poll.settle.total_seconds())
            self._tell_polled(time.monotonic() - started)
            await passed(_pending(plan))
            await self._judging.consider(plan, self._work.look_whole)
            await self._work.stalling.look(self._looking)
            await self._idling.look(self._looking.snapshot)
            if is_scan:
                self._scan_due = time.monotonic() + self._interval
            pushed = await self._news(scan_now, asked_before, self._pause(plan))
            state = self._context.states.of(self._host.identity)
            asked, state.wants_scan = state.wants_scan, False
            # Pushes may be incomplete: they do not postpone a scan.
            hears = pushed and not asked and time.monotonic() < self._scan_due
            look = self._looking.hear if hears else self._looking.look

    @property
    def _interval(self) -> float:
        """Seconds from the end of the work after one scan to the next scan."""
        return self._context.settings.poll.interval.total_seconds()

    async def _wait_for_lease(self, scan_now: Broadcast) -> None:
        """Return when the lease of the storage is free; until then only scan, and compute verdicts.

        The lease stays free until the next await.
        """
        released = self._context.harvesting.released
        while not self._may_lead():
            given_up, asked_before = released.version, scan_now.version
            with anyio.move_on_after(self._interval):
                await first_of(
                    partial(released.wait, given_up), self._judging.asked, partial(scan_now.wait, asked_before)
                )
            if self._may_lead():
                return
            plan = await self._looking.look()
            await self._context.attending.looked(self._host.name, plan.asked)
            await self._judging.consider(plan, self._looking.look_whole)

    def _may_lead(self) -> bool:
        return self._context.harvesting.is_free(self._storage) and not self._looking.is_outseen

    def _pause(self, plan: Plan) -> float:
        """Return the seconds until the next scan, if there is no news before."""
        places = [
            *(group.place for group in plan.groups),
            *(check.place for check in plan.checks),
            *(follow.place for follow in plan.follows),
        ]
        due = [each for each in (plan.next_due, self._work.troubles.next_try(places)) if each is not None]
        pause = min([self._scan_due - time.monotonic(), *(each + _BREATH for each in due)])
        return max(_BREATH, min(pause, _IMPATIENCE) if self._is_waited_for(plan) else pause)

    async def _news(self, scan_now: Broadcast, asked_before: int, pause: float) -> bool:
        """Wait until there is a reason to scan again; return whether it is a push of the host."""
        pushed = False

        async def listen() -> None:
            nonlocal pushed
            # Pushes use at most half of the time: wait for as long as the last one took to process.
            await anyio.sleep(self._looking.took)
            await self._box.changed()
            pushed = True

        pausing = f"the pause between two looks at {self._host.name}"
        with self._context.deadlines.within(pause, pausing), anyio.move_on_after(pause):
            await first_of(listen, self._judging.asked, partial(scan_now.wait, asked_before))
        return pushed

    def _tell_polled(self, seconds: float) -> None:
        self._context.monitor.polled(self._host.name, seconds)
        get_logger().debug(Event.HOST_POLLED, host=self._host.name, duration_seconds=round(seconds, 4))

    def _is_waited_for(self, plan: Plan) -> bool:
        """Return whether something that a person requested, and waits for, can be fetched now."""
        by_hand = (group for group in plan.groups if group.not_before is Value.BY_HAND)
        return any(self._work.troubles.may_try(group.place) for group in by_hand)


def _pending(plan: Plan) -> int:
    return plan.bytes_to_fetch + sum(wait.size for wait in plan.waiting)
