"""Which hosts exist: the static ones, and several providers as one."""

import anyio
import pytest
import structlog.testing

from harvestd import bulkhead
from harvestd.errors import Fatal
from harvestd.inventory.host import Host, Publish
from harvestd.inventory.providers import Inventory, StaticHosts
from harvestd.settings import HostSettings
from support.waiting import events

DEADLINE = 5
Sets = list[frozenset[Host]]


def table(name: str, address: str = "192.0.2.1", **keys: object) -> HostSettings:
    """Build a host's table."""
    return HostSettings.model_validate({"name": name, "address": address, **keys})


def host(identity: str, source: str, address: str = "192.0.2.1") -> Host:
    """Build a host."""
    return Host(identity, identity, address, source)


class Told:
    """Remembers the sets that were published, and lets a test wait for them."""

    def __init__(self) -> None:
        self.sets: Sets = []
        self._more = anyio.Event()

    def __call__(self, hosts: frozenset[Host]) -> None:
        """Take a set."""
        self.sets.append(hosts)
        self._more.set()

    async def wait(self, count: int) -> frozenset[Host]:
        """Wait until there were `count` sets, and give the last."""
        with anyio.fail_after(DEADLINE):
            while len(self.sets) < count:
                self._more = anyio.Event()
                await self._more.wait()
        assert len(self.sets) == count
        return self.sets[-1]


class Scripted:
    """A provider that a test speaks for."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._publish: Publish | None = None
        self.running = anyio.Event()
        self.failure: Exception | None = None
        self._end = anyio.Event()

    async def run(self, publish: Publish) -> None:
        """Hand `publish` to the test and wait."""
        self._publish = publish
        self.running.set()
        await self._end.wait()
        if self.failure:
            raise self.failure

    def say(self, *hosts: Host) -> None:
        """Publish a full set."""
        assert self._publish is not None
        self._publish(frozenset(hosts))

    def fail(self, failure: Exception) -> None:
        """End `run` with an exception."""
        self.failure = failure
        self._end.set()


@pytest.mark.anyio
async def test_static_hosts_are_those_of_the_configuration() -> None:
    """What the operator wrote is known at once, under an identity that no address changes."""
    told = Told()
    tables = (table("gpu-a", hardware="8x_h100", experiment="gns"), table("gpu-b", "192.0.2.2"))
    async with anyio.create_task_group() as group:
        group.start_soon(StaticHosts(tables).run, told)
        assert await told.wait(1) == {
            Host("static:gpu-a", "gpu-a", "192.0.2.1", "static", hardware="8x_h100", experiment="gns"),
            Host("static:gpu-b", "gpu-b", "192.0.2.2", "static"),
        }
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_reload_replaces_the_static_hosts() -> None:
    """A changed file is a new full set; a host whose address changed keeps its identity."""
    told = Told()
    static = StaticHosts((table("gpu-a"), table("gpu-b")))
    async with anyio.create_task_group() as group:
        group.start_soon(static.run, told)
        before = await told.wait(1)
        static.replace((table("gpu-a", "192.0.2.9"),))
        (after,) = await told.wait(2)
        assert after.address == "192.0.2.9"
        assert after.identity in {host.identity for host in before}
        static.replace(())
        assert await told.wait(3) == frozenset()
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_hosts_replaced_before_the_start_are_the_only_ones_published() -> None:
    """What stood in the file once is never announced."""
    told = Told()
    static = StaticHosts((table("old"),))
    static.replace((table("new"),))
    async with anyio.create_task_group() as group:
        group.start_soon(static.run, told)
        assert [host.name for host in await told.wait(1)] == ["new"]
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_the_newest_sets_of_all_providers_are_one() -> None:
    """Each provider's set replaces its own last one and leaves the others' alone."""
    told, first, second = Told(), Scripted("first"), Scripted("second")
    inventory = Inventory([first, second], told)
    a, b, c = host("a", "first"), host("b", "second"), host("c", "second")
    async with anyio.create_task_group() as group:
        group.start_soon(inventory.run)
        with anyio.fail_after(DEADLINE):
            await first.running.wait()
            await second.running.wait()
        first.say(a)
        assert await told.wait(1) == {a}
        second.say(b, c)
        assert await told.wait(2) == {a, b, c}
        second.say(c)
        assert await told.wait(3) == {a, c}
        first.say()
        assert await told.wait(4) == {c} == inventory.hosts
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_of_two_that_name_the_same_host_the_earlier_provider_is_believed() -> None:
    """Whichever spoke last; when it forgets the host, the other's word counts."""
    told, first, second = Told(), Scripted("first"), Scripted("second")
    mine, theirs = host("a", "first", "192.0.2.1"), host("a", "second", "192.0.2.2")
    async with anyio.create_task_group() as group:
        group.start_soon(Inventory([first, second], told).run)
        with anyio.fail_after(DEADLINE):
            await first.running.wait()
            await second.running.wait()
        second.say(theirs)
        assert await told.wait(1) == {theirs}
        first.say(mine)
        assert await told.wait(2) == {mine}
        second.say(theirs, host("b", "second"))
        assert mine in await told.wait(3)
        first.say()
        assert theirs in await told.wait(4)
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_set_that_changes_nothing_is_not_told() -> None:
    """A cloud that is asked every minute raises no event every minute; a first empty set does count."""
    told, provider = Told(), Scripted("first")
    async with anyio.create_task_group() as group:
        group.start_soon(Inventory([provider], told).run)
        with anyio.fail_after(DEADLINE):
            await provider.running.wait()
        provider.say()
        assert await told.wait(1) == frozenset()
        provider.say()
        provider.say(host("a", "first"))
        provider.say(host("a", "first"))
        assert await told.wait(2) == {host("a", "first")}
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_the_inventory_is_complete_once_every_provider_has_spoken() -> None:
    """One pass over all hosts starts only when all are known."""
    told, first, second = Told(), Scripted("first"), Scripted("second")
    inventory = Inventory([first, second], told)
    async with anyio.create_task_group() as group:
        group.start_soon(inventory.run)
        with anyio.fail_after(DEADLINE):
            await first.running.wait()
            await second.running.wait()
        first.say(host("a", "first"))
        assert await told.wait(1) == {host("a", "first")}
        assert [inventory.is_complete] == [False]
        with pytest.raises(TimeoutError), anyio.fail_after(0):
            await inventory.wait_complete()
        second.say()
        assert await told.wait(2) == {host("a", "first")}
        assert [inventory.is_complete] == [True]
        with anyio.fail_after(DEADLINE):
            await inventory.wait_complete()
        group.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_provider_that_fails_is_run_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """It keeps its last set meanwhile, the other provider goes on, and its failure is reported with a traceback."""
    monkeypatch.setattr(bulkhead, "FIRST_PAUSE", 0.01)
    told = Told()
    first, second = Scripted("first"), Scripted("second")
    inventory = Inventory([first, second], told)
    with structlog.testing.capture_logs() as event_log:
        async with anyio.create_task_group() as group:
            group.start_soon(inventory.run)
            await first.running.wait()
            await second.running.wait()
            first.say(host("a", "first"))
            second.say(host("b", "second"))
            before = await told.wait(2)
            first.running = anyio.Event()
            first.fail(RuntimeError("broken"))
            with anyio.fail_after(DEADLINE):
                await first.running.wait()
            second.say(host("b", "second"), host("c", "second"))
            assert await told.wait(3) == before | {host("c", "second")}
            group.cancel_scope.cancel()
    (failure,) = events(event_log, "service.failed", service="provider first")
    assert isinstance(failure["exc_info"], RuntimeError)


@pytest.mark.anyio
async def test_what_concerns_all_hosts_ends_the_inventory() -> None:
    """A provider may say that the process can't go on."""
    first = Scripted("first")
    first.fail(Fatal("no"))
    with anyio.fail_after(DEADLINE), pytest.raises(ExceptionGroup) as caught:
        await Inventory([first], Told()).run()
    assert caught.group_contains(Fatal)


def test_two_providers_of_one_name_are_a_mistake() -> None:
    """Their sets would overwrite each other."""
    with pytest.raises(ValueError, match="share a name"):
        Inventory([StaticHosts(()), StaticHosts(())], Told())
