"""A single pass over one connected host: fetches everything that is complete now, then ends."""

import anyio

from harvestd.errors import unwrapped
from harvestd.harvest.context import Context
from harvestd.harvest.host.executor import Executor
from harvestd.harvest.host.failures import PassResult
from harvestd.inventory.host import Host
from harvestd.planning.plan import Plan
from harvestd.remote.api import Box, BoxFacts
from harvestd.store.root import DataRoot

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
                async with work.under_way():
                    plan = await self._until_nothing_comes()
                    # No quiet time is needed: files of a finished run are not appended to before the next pass.
                    await work.follow_names(plan, quiet=0.0)
        return PassResult(
            files=work.publisher.files + len(work.following.files),
            bytes=work.publisher.bytes + work.following.bytes,
            failed=work.troubles.all(),
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
        waited = patience = 0.0
        async with work.begins():
            plan = await work.scan()
            await work.do(plan, self._ask_ahead)
        while True:
            await self._wait_for_bulk()
            self._context.signals.idle.ring()
            plan = await work.scan()
            tryable = self._tryable(plan)
            if tryable or plan.tidies:
                await anyio.sleep(work.troubles.pause(tryable))
                await work.do(plan, self._ask_ahead)
                continue
            due = [wait.seconds + _BREATH for wait in plan.waiting if wait.seconds is not None]
            patience = max(patience, 2 * max(due, default=0.0))
            if not due or waited + min(due) > patience:
                return plan
            await anyio.sleep(min(due))
            waited += min(due)
            await work.do(await work.scan(), self._ask_ahead)

    def _ask_ahead(self) -> None:
        """Request the next scan while the last small files are being published, if nothing else is outstanding."""
        if not self._work.bulk.busy:
            self._box.look_ahead()

    async def _wait_for_bulk(self) -> None:
        while self._work.bulk.busy:
            await self._work.bulk.progressed.rung()

    def _tryable(self, plan: Plan) -> list[str]:
        """Return the remote paths that another round can fetch; growing files never prolong a pass."""
        places = [group.place for group in plan.groups] + [check.place for check in plan.checks]
        hopeless = self._work.without_room
        return [each for each in places if self._work.troubles.attempts(each) < _ATTEMPTS and each not in hopeless]
