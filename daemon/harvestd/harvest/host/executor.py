"""Execute the plan of one connected host: the steps that the daemon and a single pass share, and a single pass.

The daemon's `loop` repeats the steps for good, `SinglePass` until everything that is complete now is here.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager, nullcontext

import anyio

from harvestd.errors import DiskFull, unwrapped
from harvestd.harvest.context import Context
from harvestd.harvest.experiments.names import AutomaticNames
from harvestd.harvest.host.failures import PassResult
from harvestd.harvest.host.health import StallDetector
from harvestd.harvest.host.local_actions import LocalActions
from harvestd.harvest.host.observer import Observer
from harvestd.harvest.state import VisibleEvals
from harvestd.harvest.transfer.large import LargeFileFetcher
from harvestd.harvest.transfer.publish import Publisher
from harvestd.harvest.transfer.rehash import check_contents
from harvestd.harvest.transfer.small import SMALL, SmallFileFetcher
from harvestd.harvest.transfer.tail import LogTailer
from harvestd.inventory.host import Host
from harvestd.planning.plan import Check, FetchGroup, Follow, Plan
from harvestd.remote.api import Box, BoxFacts
from harvestd.store.root import DataRoot


def _nothing() -> None:
    """Do nothing."""


class Executor:
    """Works on one host for as long as its connection lasts."""

    def __init__(self, host: Host, context: Context, root: DataRoot, box: Box, facts: BoxFacts) -> None:
        """Start without the state of earlier connections: what a host showed before it was lost proves nothing."""
        self._context = context
        self._host = host
        self._root = root
        self._box = box
        self.observer = Observer(host, context, box, facts)
        self.failures = self.observer.failures
        self.publisher = Publisher(host, context, root, self.observer.refused)
        self.stalling = StallDetector(host, context)
        self.following = LogTailer(host, context, root, self.failures, self.observer.refused, self.stalling)
        self.bulk = LargeFileFetcher(host, context, root, box, self.publisher, self.failures)
        self._collecting = SmallFileFetcher(host, context, root, self.publisher, self.failures)
        self._names = AutomaticNames(host, context, root, facts)
        self._local_actions = LocalActions(host, context, root, self.observer.refused)
        self._planned: set[str] = set()
        self._without_room: set[str] = set()

    @property
    def without_room(self) -> set[str]:
        """The remote paths that did not fit on the disk."""
        return self._without_room | self.bulk.without_room

    @contextmanager
    def shown(self) -> Iterator[None]:
        """Register this host as connected, for the planners of other hosts, for the duration of the body."""
        self._context.states.of(self._host.identity).visible = VisibleEvals(self._context.storage_of(self._host))
        try:
            yield
        finally:
            self._context.states.of(self._host.identity).visible = None
            self.observer.lease.release()
            # A command that works on a single run reads the result afterwards.
            if self._context.selection.only is None:
                self._context.states.of(self._host.identity).last_scan = None

    @asynccontextmanager
    async def fetching_large_files(self) -> AsyncIterator[None]:
        """Fetch large files during the body, which must hold the lease of the storage; errors may come in a group."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self.bulk.run)
                yield
                tasks.cancel_scope.cancel()
        finally:
            self.following.close()

    def begins(self) -> AbstractAsyncContextManager[object]:
        """Return what the first scan waits for: a slot, or nothing on a host that may end at any moment."""
        return (
            nullcontext()
            if self._host.name in self._context.fleet.rescue.ending_hosts
            else self._context.budgets.beginning.slot()
        )

    async def scan(self) -> Plan:
        """Scan the host and return its plan. Raise `Retry` and `HostQuarantined`."""
        return await self.process_scan(self.observer.scan)

    async def scan_all(self) -> Plan:
        """Do the same as `scan`, but with a full scan of every entry."""
        return await self.process_scan(self.observer.scan_all)

    async def process_scan(self, scan: Callable[[], Awaitable[Plan]]) -> Plan:
        """Scan by `scan`, update everything that depends on the scan, and return the plan; raise what `scan` raises."""
        await self.observer.refused.heal(self._root)
        plan = await scan()
        await self._context.requests.record_scan(self._host.name, plan.request_states)
        if plan.ignored:
            await self.bulk.drop_below(plan.ignored)
        if self.observer.snapshot is not None and self.observer.snapshot.changed:
            await self.bulk.drop_gone(self.observer.snapshot)
        fresh = [group for group in plan.groups if group.place not in self._planned]
        self._planned = {group.place for group in plan.groups}
        files = sum(len(group.files) for group in fresh)
        size = sum(group.size for group in fresh) + sum(follow.size for follow in plan.follows)
        if files or size:
            self._context.monitor.planned(self._host.name, size, files)
        return plan

    async def do(self, plan: Plan, all_read: Callable[[], None] = _nothing) -> None:
        """Fetch the small files now; large groups continue in the background.

        `all_read` is called once all small files are read. Raise `Retry` when the link is lost, `HaltedForSafety` when
        the disk fails.
        """
        await self._local_actions.perform(plan)
        if self._context.fleet.is_paused:
            self.bulk.pause()
            return
        groups = [group for group in plan.groups if self.failures.may_try(group.place)]
        large = [group for group in groups if group.size > SMALL]
        (
            self.bulk.set_queue_now
            if self._host.name in self._context.fleet.rescue.ending_hosts
            else self.bulk.set_queue
        )(large)
        checks = [each for each in plan.checks if self.failures.may_try(each.place)]
        follows = [each for each in plan.follows if self.failures.may_try(each.place)]
        small = [group for group in groups if group.size <= SMALL]
        fitting = await self._fitting(small, follows)
        small = [group for group in small if group.place in fitting]
        follows = [each for each in follows if each.place in fitting]
        try:
            async with self._context.budgets.room.above_floor(self._root):
                await self._do_small(checks, small, follows, all_read)
        except DiskFull:
            self._without_room |= fitting
            self._context.budgets.room.ran_full()
            await self._context.budgets.room.refuse(self._root, sum(group.size for group in small))

    async def _fitting(self, small: Iterable[FetchGroup], follows: Iterable[Follow]) -> set[str]:
        """Return the remote paths that fit on the disk, by value; the rest waits."""
        left = await self._context.budgets.room.left(self._root)
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
            await self._context.budgets.room.refuse(self._root, sum(refused))
        return fitting

    async def _do_small(
        self, checks: list[Check], small: list[FetchGroup], follows: list[Follow], all_read: Callable[[], None]
    ) -> None:
        if checks:
            await check_contents(checks, self._box, self._context, self.failures)
        with unwrapped():
            async with anyio.create_task_group() as tasks:
                if small:
                    await tasks.start(self._collecting.fetch, small, self._box)
                if follows:
                    await self.following.follow(follows, self._box)
                all_read()
        if small or follows:
            self._context.budgets.room.proved()

    async def follow_names(self, plan: Plan, quiet: float) -> None:
        """Rename the experiments of runs that have finished, are here, and did not change for `quiet` seconds.

        Their names follow from what is known of them by then.
        """
        observer = self.observer
        if observer.seen is not None:
            await self._names.follow(observer.seen, plan, observer.sightings, quiet, observer.lease)


_BREATH = 0.05
"""Seconds added to a waiting time, so that it is certainly over."""
_ATTEMPTS = 3
"""How often a failing file is tried before it counts as failed."""


class SinglePass:
    """Makes one pass over one host."""

    def __init__(self, host: Host, context: Context, root: DataRoot, box: Box, facts: BoxFacts) -> None:
        self._host = host
        self._context = context
        self._box = box
        self._work = Executor(host, context, root, box, facts)

    async def make(self) -> PassResult:
        """Fetch everything that is complete now; wait for what only has to settle.

        A file that is written again and again is waited for twice as long as it would need if it were quiet, no longer.
        Raise `Retry` when the link is lost, `HostQuarantined`, `HaltedForSafety`.
        """
        work, leases, storage = self._work, self._context.leases, self._context.storage_of(self._host)
        with unwrapped(), work.shown():
            await leases.wait_free(storage)
            with leases.held(storage, self._host.identity):
                async with work.fetching_large_files():
                    plan = await self._until_nothing_comes()
                    # No quiet time is needed: files of a finished run are not appended to before the next pass.
                    await work.follow_names(plan, quiet=0.0)
        return PassResult(
            files=work.publisher.files + len(work.following.files),
            bytes=work.publisher.bytes + work.following.bytes,
            failed=work.failures.all(),
            conflicts={
                str(path): detail
                for path, detail in (*work.publisher.conflicts.items(), *work.following.conflicts.items())
            },
            waiting=plan.waiting,
            disk_full=bool(work.without_room),
            missing_roots=work.observer.missing_roots,
        )

    async def _until_nothing_comes(self) -> Plan:
        """Work until a scan shows nothing that another round, or a short wait, could fetch; return its plan."""
        work = self._work
        waited = timeout = 0.0
        async with work.begins():
            plan = await work.scan()
            await work.do(plan, self._ask_ahead)
        while True:
            await self._wait_for_bulk()
            self._context.signals.idle.ring()
            plan = await work.scan()
            tryable = self._tryable(plan)
            if tryable or plan.tidies:
                await anyio.sleep(work.failures.pause(tryable))
                await work.do(plan, self._ask_ahead)
                continue
            due = [wait.seconds + _BREATH for wait in plan.waiting if wait.seconds is not None]
            timeout = max(timeout, 2 * max(due, default=0.0))
            if not due or waited + min(due) > timeout:
                return plan
            await anyio.sleep(min(due))
            waited += min(due)
            await work.do(await work.scan(), self._ask_ahead)

    def _ask_ahead(self) -> None:
        """Request the next scan while the last small files are being published, if nothing else is outstanding."""
        if not self._work.bulk.busy:
            self._box.scan_ahead()

    async def _wait_for_bulk(self) -> None:
        while self._work.bulk.busy:
            await self._work.bulk.progressed.rung()

    def _tryable(self, plan: Plan) -> list[str]:
        """Return the remote paths that another round can fetch; growing files never prolong a pass."""
        places = [group.place for group in plan.groups] + [check.place for check in plan.checks]
        hopeless = self._work.without_room
        return [each for each in places if self._work.failures.attempts(each) < _ATTEMPTS and each not in hopeless]
