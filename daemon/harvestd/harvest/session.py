"""One connected host: look, do what the plan says, look again. Ends when the link does, or after one whole pass."""

import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, nullcontext

import anyio

from harvestd.convention.artifacts import Value
from harvestd.convention.plan import Check, FetchGroup, Follow, Plan
from harvestd.errors import DiskFull, unwrapped
from harvestd.harvest.bell import Bell
from harvestd.harvest.bulk import Bulk
from harvestd.harvest.checking import check_contents
from harvestd.harvest.collecting import SMALL, Collecting
from harvestd.harvest.following import Following
from harvestd.harvest.following_names import FollowingNames
from harvestd.harvest.gathering import Gathering
from harvestd.harvest.house import House, Showing
from harvestd.harvest.idling import Idling
from harvestd.harvest.judging import Judging
from harvestd.harvest.looking import Looking
from harvestd.harvest.publisher import Publisher
from harvestd.harvest.results import PassResult
from harvestd.harvest.stalling import Stalling
from harvestd.harvest.tidying import Tidying
from harvestd.inventory.provider import Host
from harvestd.remote.box import Box, BoxFacts
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import get_logger

Passed = Callable[[int], Awaitable[None]]
"""Hears after each whole pass how many bytes are still wanted and not here."""

_ATTEMPTS = 3
"""How often a single pass tries what fails before it calls it failed."""
_IMPATIENCE = 1.0
"""Seconds between two looks while a person waits for what was asked for by hand."""
_BREATH = 0.05
"""Seconds added to a waiting time, so that it is surely over."""


def _nothing() -> None:
    """Tell nobody."""


class Session:
    """Works on one host for as long as its connection lasts."""

    def __init__(self, host: Host, house: House, root: DataRoot, box: Box, facts: BoxFacts) -> None:
        """Made anew for each connection: what a box showed before it was lost proves nothing now."""
        self._house = house
        self._host = host
        self._root = root
        self._box = box
        self._looking = Looking(host, house, box, facts)
        self._troubles = self._looking.troubles
        self._publisher = Publisher(host, house, root, self._looking.refused)
        self._collecting = Collecting(host, house, root, self._publisher, self._troubles)
        self._stalling = Stalling(host, house)
        self._idling = Idling(host, house, box)
        self._following = Following(host, house, root, self._troubles, self._looking.refused, self._stalling)
        self._names = FollowingNames(host, house, root, facts)
        self._tidying = Tidying(host, house, root, self._looking.refused)
        self._bulk = Bulk(host, house, root, box, self._publisher, self._troubles)
        self._judging = Judging(host, house, Gathering(host, house, root, box, self._looking), self._transfers)
        self._planned: set[str] = set()
        self._without_room: set[str] = set()

    def _transfers(self) -> int:
        return int(self._bulk.busy)

    @asynccontextmanager
    async def _working(self, turn: AbstractAsyncContextManager[None]) -> AsyncIterator[None]:
        self._house.showing[self._host.identity] = Showing(self._house.storage_of(self._host))
        try:
            with unwrapped():
                async with turn, anyio.create_task_group() as tasks:
                    tasks.start_soon(self._bulk.run)
                    yield
                    tasks.cancel_scope.cancel()
        finally:
            del self._house.showing[self._host.identity]
            # Who works for one run alone asks afterwards what became of it.
            if self._house.selection.only is None:
                self._house.outlooks.pop(self._host.identity, None)
            self._following.close()

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

    def _begins(self) -> AbstractAsyncContextManager[None]:
        """Give what the first look waits for: a turn, but on a host that may end at any moment."""
        return nullcontext() if self._host.name in self._house.rescue.perils else self._house.beginning.turn()

    async def _look_whole(self) -> Plan:
        return await self._seen(self._looking.look_whole)

    async def watch(self, scan_now: Bell, passed: Passed) -> None:
        """Look and work until the link is lost (`Retry`) or the host breaks a rule (`HostQuarantined`)."""
        with self._judging.kept():
            async with self._working(self._turn()):
                look, beginning = self._looking.look, self._begins()
                while True:
                    async with beginning:
                        started = time.monotonic()
                        plan = await self._seen(look)
                        await self._judging.before_work(plan, self._look_whole)
                        await self._work(plan)
                    beginning = nullcontext()
                    await self._follow_names(plan, self._house.settings.poll.settle.total_seconds())
                    self._tell_polled(time.monotonic() - started)
                    await passed(self._pending(plan))
                    await self._judging.consider(plan, self._look_whole)
                    await self._stalling.look(self._looking)
                    await self._idling.look(self._looking.snapshot)
                    due = plan.next_due
                    interval = self._house.settings.poll.interval.total_seconds()
                    pause = interval if due is None else min(interval, due + _BREATH)
                    if self._is_waited_for(plan):
                        pause = min(pause, _IMPATIENCE)
                    pushed = await self._news(scan_now, max(_BREATH, pause))
                    asked = self._host.identity in self._house.asked_for
                    self._house.asked_for.discard(self._host.identity)
                    look = self._looking.hear if pushed and not asked else self._looking.look

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

    async def single_pass(self) -> PassResult:
        """Bring home everything that is complete now, waiting for what only has to settle.

        What is written to again and again is waited for twice as long as it would need if it were quiet, no longer.
        """
        waited = patience = 0.0
        async with self._working(self._house.harvesting.of(self._house.storage_of(self._host))):
            async with self._begins():
                plan = await self._look()
                await self._work(plan, self._ask_ahead)
            while True:
                await self._wait_for_bulk()
                self._house.rested.ring()
                plan = await self._look()
                tryable = self._tryable(plan)
                if tryable or plan.tidies:
                    await anyio.sleep(self._troubles.pause(tryable))
                    await self._work(plan, self._ask_ahead)
                    continue
                due = [wait.seconds + _BREATH for wait in plan.waiting if wait.seconds is not None]
                patience = max(patience, 2 * max(due, default=0.0))
                if not due or waited + min(due) > patience:
                    break
                await anyio.sleep(min(due))
                waited += min(due)
                plan = await self._look()
                await self._work(plan, self._ask_ahead)
            # Nobody appends to a file of a finished run before the next pass.
            await self._follow_names(plan, quiet=0.0)
        return PassResult(
            files=self._publisher.files + len(self._following.files),
            bytes=self._publisher.bytes + self._following.bytes,
            failed=self._troubles.all(),
            conflicts={
                str(path): detail
                for path, detail in (*self._publisher.conflicts.items(), *self._following.conflicts.items())
            },
            waiting=plan.waiting,
            disk_full=bool(self._without_room | self._bulk.without_room),
            missing_roots=self._looking.missing_roots,
        )

    async def _look(self) -> Plan:
        return await self._seen(self._looking.look)

    async def _seen(self, look: Callable[[], Awaitable[Plan]]) -> Plan:
        plan = await look()
        await self._house.attending.looked(self._host.name, plan.asked)
        if plan.ignored:
            await self._bulk.drop_below(plan.ignored)
        if self._looking.snapshot is not None and self._looking.snapshot.changed:
            await self._bulk.drop_gone(self._looking.snapshot)
        fresh = [group for group in plan.groups if group.place not in self._planned]
        self._planned = {group.place for group in plan.groups}
        files = sum(len(group.files) for group in fresh)
        size = sum(group.size for group in fresh) + sum(follow.size for follow in plan.follows)
        if files or size:
            self._house.monitor.planned(self._host.name, size, files)
        return plan

    def _ask_ahead(self) -> None:
        """Ask for the next look while the last small files are being published, where nothing else is to come."""
        if not self._bulk.busy:
            self._box.look_ahead()

    async def _work(self, plan: Plan, all_read: Callable[[], None] = _nothing) -> None:
        """Do the small things now; large groups go on beside. `all_read` is called when no small file is to be read."""
        await self._tidying.tidy(plan)
        if self._house.is_paused:
            self._bulk.rest()
            return
        groups = [group for group in plan.groups if self._troubles.may_try(group.place)]
        large = [group for group in groups if group.size > SMALL]
        (self._bulk.insist if self._host.name in self._house.rescue.perils else self._bulk.offer)(large)
        checks = [each for each in plan.checks if self._troubles.may_try(each.place)]
        follows = [each for each in plan.follows if self._troubles.may_try(each.place)]
        small = [group for group in groups if group.size <= SMALL]
        fitting = await self._fitting(small, follows)
        small = [group for group in small if group.place in fitting]
        follows = [each for each in follows if each.place in fitting]
        try:
            async with self._house.room.above_floor(self._root):
                await self._do_small(checks, small, follows, all_read)
        except DiskFull:
            self._without_room |= fitting
            self._house.room.ran_full()
            await self._house.room.refuse(self._root, sum(group.size for group in small))

    async def _fitting(self, small: Iterable[FetchGroup], follows: Iterable[Follow]) -> set[str]:
        """Give the places for which there is room on the disk, by value; the rest waits."""
        left = await self._house.room.left(self._root)
        fitting: set[str] = set()
        refused: list[int] = []
        self._without_room.clear()
        wanted: list[FetchGroup | Follow] = [*small, *follows]
        for each in sorted(wanted, key=lambda each: each.value):
            if each.size <= left and not refused:
                left -= each.size
                fitting.add(each.place)
            else:
                self._without_room.add(each.place)
                refused.append(each.size)
        if refused:
            await self._house.room.refuse(self._root, sum(refused))
        return fitting

    async def _do_small(
        self, checks: list[Check], small: list[FetchGroup], follows: list[Follow], all_read: Callable[[], None]
    ) -> None:
        if checks:
            await check_contents(checks, self._box, self._house, self._troubles)
        with unwrapped():
            async with anyio.create_task_group() as tasks:
                if small:
                    await tasks.start(self._collecting.fetch, small, self._box)
                if follows:
                    await self._following.follow(follows, self._box)
                all_read()
        if small or follows:
            self._house.room.proved()

    async def _follow_names(self, plan: Plan, quiet: float) -> None:
        if self._looking.seen is not None:
            await self._names.follow(self._looking.seen, plan, self._looking.sightings, quiet)

    async def _wait_for_bulk(self) -> None:
        while self._bulk.busy:
            await self._bulk.progressed.rung()

    def _tryable(self, plan: Plan) -> list[str]:
        """Give the places for which another round can bring anything; growing files never hold a pass open."""
        places = [group.place for group in plan.groups] + [check.place for check in plan.checks]
        hopeless = self._without_room | self._bulk.without_room
        return [each for each in places if self._troubles.attempts(each) < _ATTEMPTS and each not in hopeless]

    def _is_waited_for(self, plan: Plan) -> bool:
        """Tell whether something that a person asked for comes now, who wants to hear of it soon."""
        by_hand = (group for group in plan.groups if group.not_before is Value.BY_HAND)
        return any(self._troubles.may_try(group.place) for group in by_hand)

    def _pending(self, plan: Plan) -> int:
        return plan.bytes_to_fetch + sum(wait.size for wait in plan.waiting)
