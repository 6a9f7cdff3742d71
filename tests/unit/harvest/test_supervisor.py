"""What ends the pause of a host that failed, and what a host that failed holds up."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import cast

import anyio
import pytest
from msgspec.structs import replace

from harvestd.errors import HostQuarantined, Retry
from harvestd.harvest.context import Context
from harvestd.harvest.fleet import supervisor
from harvestd.harvest.metrics import FleetMetrics, NullListener
from harvestd.harvest.sync import Broadcast
from harvestd.inventory.host import Host
from harvestd.settings import Settings
from harvestd.store.root import DataRoot
from support.waiting import until

pytestmark = pytest.mark.anyio

HOST = Host("static:gpu-a", "gpu-a", "192.0.2.1", "static")
TIMEOUT = 60.0


class Site:
    """A watcher of a host to which no connection comes about."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.context = Context.of(Settings(), NullListener())
        self.scan_now = Broadcast()
        self.errors: list[Retry | HostQuarantined] = []
        """What the attempts end with; further ones hang."""
        self.attempts = 0
        monkeypatch.setattr(supervisor, "connected", self.connected)
        monkeypatch.setattr(supervisor.HostSupervisor, "_record", self._record)
        self.watcher = supervisor.HostSupervisor(
            HOST, self.context, cast("DataRoot", None), self.scan_now, FleetMetrics()
        )

    @asynccontextmanager
    async def connected(self, _host: Host, _context: Context) -> AsyncIterator[object]:
        """Fail, or hang."""
        self.attempts += 1
        if self.errors:
            raise self.errors.pop(0)
        await anyio.Event().wait()
        yield self

    async def _record(self, *_args: object, **_fields: object) -> None:
        pass


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a site where pauses are longer than any test."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 3600.0)
    monkeypatch.setattr(supervisor, "LONGEST_PAUSE", 3600.0)
    return Site(monkeypatch)


async def test_only_the_operator_cuts_the_pause_of_a_lost_host(site: Site) -> None:
    """What wakes all hosts that are connected (a request, a reload) is no reason; that someone asks for a scan is."""
    site.errors = [Retry("lost"), Retry("lost")]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.watcher.run)
        for attempt in (1, 2):
            await until(lambda attempt=attempt: site.attempts == attempt, TIMEOUT)  # type: ignore[misc]
            await anyio.wait_all_tasks_blocked()
            for _ in range(3):
                site.scan_now.ring()
                await anyio.wait_all_tasks_blocked()
            assert site.attempts == attempt
            site.context.signals.scan_now.ring()
        await until(lambda: site.attempts == 3, TIMEOUT)
        tasks.cancel_scope.cancel()


async def test_nothing_cuts_the_pause_of_a_quarantined_host(site: Site) -> None:
    """A person has to act on the host first."""
    site.errors = [HostQuarantined("another key")]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.watcher.run)
        await until(lambda: site.attempts == 1, TIMEOUT)
        for _ in range(3):
            await anyio.wait_all_tasks_blocked()
            site.scan_now.ring()
            site.context.signals.scan_now.ring()
        await anyio.wait_all_tasks_blocked()
        assert site.attempts == 1
        tasks.cancel_scope.cancel()


async def test_lost_host_that_is_about_to_end_is_tried_at_once(site: Site) -> None:
    """Its pause may be all the time that is left; it is cut once."""
    site.errors = [Retry("lost"), Retry("lost")]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.watcher.run)
        await until(lambda: site.attempts == 1, TIMEOUT)
        await anyio.wait_all_tasks_blocked()
        site.context.fleet.rescue.take([replace(HOST, peril="preempted")], None)
        site.scan_now.ring()
        await until(lambda: site.attempts == 2, TIMEOUT)
        await anyio.wait_all_tasks_blocked()
        site.scan_now.ring()
        await anyio.wait_all_tasks_blocked()
        assert site.attempts == 2
        tasks.cancel_scope.cancel()


async def test_only_the_first_attempt_is_awaited_by_requests(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a person asked for is settled beside a host that can't be reached, also while it is tried again."""
    monkeypatch.setattr(supervisor, "FIRST_PAUSE", 0.01)
    site.errors = [Retry("lost")]
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(site.watcher.run)
        await until(lambda: site.attempts == 2, TIMEOUT)
        assert not site.context.requests.awaited
        tasks.cancel_scope.cancel()
