"""Connecting to many hosts at once, some of which never answer."""

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import cast

import anyio
import pytest

from harvestd.errors import Retry
from harvestd.harvest.budgets import slot
from harvestd.harvest.context import Context
from harvestd.harvest.fleet import connections
from harvestd.harvest.metrics import NullListener
from harvestd.inventory.host import Host
from harvestd.remote.ssh.connection import Connection, Hops
from harvestd.settings import Settings
from support.waiting import until

pytestmark = pytest.mark.anyio

DEAD = 40
TIMEOUT = 60.0


class Network:
    """Hosts called `dead…`, which never answer until they are given up, and others, which do at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.given_up = anyio.Event()
        self.context = Context.of(Settings.model_validate({"limits": {"connecting": 2}}), NullListener())
        self.linked: set[str] = set()

    @asynccontextmanager
    async def connect(self, target: object, _pins: object, **_options: object) -> AsyncIterator[Connection]:
        """Stand in for the real thing."""
        name = cast("Host", target).name
        self.asked.append(name)
        if name.startswith("dead"):
            await self.given_up.wait()
            raise Retry("no answer")
        yield cast("Connection", self)

    def abort(self) -> None:
        """See `Connection.abort`."""

    def link(self, name: str) -> Callable[[], Coroutine[object, object, None]]:
        """Return what connects to a host once."""

        async def link() -> None:
            host = Host(f"static:{name}", name, "192.0.2.1", "static")
            with suppress(Retry):
                async with connections.linked(host, self.context, 1, Hops()):
                    self.linked.add(name)

        return link


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Network:
    """Return a network in place of the real one."""
    made = Network()
    monkeypatch.setattr(connections, "connect", made.connect)
    return made


async def test_hosts_that_do_not_answer_keep_no_other_one_waiting(
    network: Network, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The slots of those that take long go to the next ones, long before they are given up."""
    monkeypatch.setattr(connections, "SILENT", 0.02)
    async with anyio.create_task_group() as tasks:
        for number in range(DEAD):
            tasks.start_soon(network.link(f"dead-{number}"))
        tasks.start_soon(network.link("alive"))
        await until(lambda: network.linked == {"alive"}, TIMEOUT)
        assert len(network.asked) == DEAD + 1
        tasks.cancel_scope.cancel()


async def test_a_host_that_answers_keeps_its_slot() -> None:
    """Its log-in costs processor time from the first byte on, so that few are logged in at a time."""
    limiter = anyio.CapacityLimiter(2)
    async with slot(limiter, 0.0, TIMEOUT), slot(limiter, 0.0, TIMEOUT) as answered:
        answered()
        await until(lambda: limiter.borrowed_tokens < 2, TIMEOUT)
        assert limiter.borrowed_tokens == 1
        answered()
    assert limiter.borrowed_tokens == 0


async def test_hosts_that_failed_have_slots_of_their_own(network: Network) -> None:
    """Those that are tried again wait among themselves, and one that answers is no such host from then on."""
    network.given_up.set()
    async with anyio.create_task_group() as tasks:
        for number in range(DEAD):
            tasks.start_soon(network.link(f"dead-{number}"))
    assert len(network.asked) == sum(each.is_unreached for each in network.context.states.all()) == DEAD
    network.given_up = anyio.Event()
    async with anyio.create_task_group() as tasks:
        for number in range(DEAD):
            tasks.start_soon(network.link(f"dead-{number}"))
        await anyio.wait_all_tasks_blocked()
        assert len(network.asked) == DEAD + 1
        tasks.start_soon(network.link("alive"))
        await anyio.wait_all_tasks_blocked()
        assert network.linked == {"alive"}
        tasks.cancel_scope.cancel()
    network.context.states.of("static:alive").is_unreached = True
    await network.link("alive")()
    assert not network.context.states.of("static:alive").is_unreached
