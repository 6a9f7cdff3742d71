"""One connected host in a daemon: look, do what the plan says, judge, wait for news. Ends when the link does."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, nullcontext

import anyio

from harvestd.convention.artifacts import Value
from harvestd.convention.plan import Plan
from harvestd.errors import unwrapped
from harvestd.harvest.bell import Bell
from harvestd.harvest.gathering import Gathering
from harvestd.harvest.house import House
from harvestd.harvest.idling import Idling
from harvestd.harvest.judging import Judging
from harvestd.harvest.working import Work
from harvestd.inventory.provider import Host
from harvestd.remote.box import Box, BoxFacts
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

Passed = Callable[[int], Awaitable[None]]
"""Hears after each whole pass how many bytes are still wanted and not here."""

_IMPATIENCE = 1.0
"""Seconds between two looks while a person waits for what was asked for by hand."""
_BREATH = 0.05
"""Seconds added to a waiting time, so that it is surely over."""


class Session:
    """Works on one host for as long as its connection lasts."""

    def __init__(self, host: Host, house: House, root: DataRoot, box: Box, facts: BoxFacts) -> None:
        """Made anew for each connection: what a box showed before it was lost proves nothing now."""
        self._house = house
        self._host = host
        self._box = box
        self._work = Work(host, house, root, box, facts)
        self._looking = self._work.looking
        self._idling = Idling(host, house, box)
        self._judging = Judging(host, house, Gathering(host, house, root, box, self._looking), self._transfers)

    def _transfers(self) -> int:
        return int(self._work.bulk.busy)

    async def watch(self, scan_now: Bell, passed: Passed) -> None:
        """Look and work until the link is lost (`Retry`) or the host breaks a rule (`HostQuarantined`)."""
        with self._judging.kept(), unwrapped():
            async with self._work.under_way(self._turn()):
                look, beginning = self._looking.look, self._work.begins()
                while True:
                    async with beginning:
                        started = time.monotonic()
                        plan = await self._work.seen(look)
                        await self._judging.before_work(plan, self._work.look_whole)
                        await self._work.do(plan)
                    beginning = nullcontext()
                    await self._work.follow_names(plan, self._house.settings.poll.settle.total_seconds())
                    self._tell_polled(time.monotonic() - started)
                    await passed(_pending(plan))
                    await self._judging.consider(plan, self._work.look_whole)
                    await self._work.stalling.look(self._looking)
                    await self._idling.look(self._looking.snapshot)
                    pushed = await self._news(scan_now, self._pause(plan))
                    asked = self._host.identity in self._house.asked_for
                    self._house.asked_for.discard(self._host.identity)
                    look = self._looking.hear if pushed and not asked else self._looking.look

    @asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        """Wait until nobody else brings home what lies on the same storage; meanwhile look on, and judge."""
        turn = self._house.harvesting.of(self._house.storage_of(self._host))
        while not await self._has(turn):
            plan = await self._looking.look()
            await self._house.attending.looked(self._host.name, plan.asked)
            await self._judging.consider(plan, self._looking.look_whole)
        try:
            yield
        finally:
            turn.release()

    async def _has(self, turn: anyio.Lock) -> bool:
        """Wait for the turn until it is time to look, or somebody asks for a verdict; tells whether it came."""
        has = False

        async def listen() -> None:
            await self._judging.asked()
            tasks.cancel_scope.cancel()

        with anyio.move_on_after(self._house.settings.poll.interval.total_seconds()):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
                await turn.acquire()
                has = True
                tasks.cancel_scope.cancel()
        return has

    def _pause(self, plan: Plan) -> float:
        """Give the seconds until the next look, if nothing is heard before."""
        due = plan.next_due
        interval = self._house.settings.poll.interval.total_seconds()
        pause = interval if due is None else min(interval, due + _BREATH)
        return max(_BREATH, min(pause, _IMPATIENCE) if self._is_waited_for(plan) else pause)

    async def _news(self, scan_now: Bell, pause: float) -> bool:
        """Wait until there is a reason to look again; tells whether the box says by itself what is new."""
        pushed = False

        async def listen() -> None:
            nonlocal pushed
            # A box that tells without end has half of our time at most.
            await anyio.sleep(self._looking.took)
            await self._box.changed()
            pushed = True
            tasks.cancel_scope.cancel()

        async def be_asked() -> None:
            await self._judging.asked()
            tasks.cancel_scope.cancel()

        pausing = f"the pause between two looks at {self._host.name}"
        with self._house.deadlines.within(pause, pausing), anyio.move_on_after(pause):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen)
                tasks.start_soon(be_asked)
                await scan_now.rung()
                tasks.cancel_scope.cancel()
        return pushed

    def _tell_polled(self, seconds: float) -> None:
        self._house.monitor.polled(self._host.name, seconds)
        get_logger().debug(Event.HOST_POLLED, host=self._host.name, duration_seconds=round(seconds, 4))

    def _is_waited_for(self, plan: Plan) -> bool:
        """Tell whether something that a person asked for comes now, who wants to hear of it soon."""
        by_hand = (group for group in plan.groups if group.not_before is Value.BY_HAND)
        return any(self._work.troubles.may_try(group.place) for group in by_hand)


def _pending(plan: Plan) -> int:
    return plan.bytes_to_fetch + sum(wait.size for wait in plan.waiting)
