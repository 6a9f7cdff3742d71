"""The workstation sleeps, with links that are dead when it wakes: they are made anew at once, and nothing is missed."""

import anyio
import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.harvest.fleet.interruptions import SuspendDetector, slept
from support.house import Workstation
from support.large_checkpoints import (
    LARGE,
    MIB,
    SIZE,
    is_absent,
    is_home,
    journalled,
    staging_is_empty,
    write_large_checkpoint,
)
from support.relay import relayed
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
NIGHT = 8 * 3600.0


class Sleeps:
    """How long the workstation has slept, as a test says."""

    def __init__(self) -> None:
        self.seconds = slept()

    def __call__(self) -> float:
        """Return the seconds."""
        return self.seconds


@pytest.fixture
def sleeps(monkeypatch: pytest.MonkeyPatch) -> Sleeps:
    """Put a clock that jumps when a test says so in place of the machine's."""
    clock = Sleeps()
    monkeypatch.setattr("harvestd.harvest.fleet.interruptions.slept", clock)
    return clock


async def test_links_are_replaced_at_once(workstation: Workstation, sleeps: Sleeps) -> None:
    """Long before keepalives would find a link dead there is another one, and what was written meanwhile comes home."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        async with workstation.running() as event_log:
            await until(workstation.follows(writer))
            before = relay.connections
            relay.silence()
            writer.log_step(3)
            await until(lambda: relay.swallowed)
            sleeps.seconds += NIGHT
            await until(lambda: relay.connections > before, seconds=2)
            await until(workstation.follows(writer))
            assert relay.open == 1
    (woke,) = events(event_log, "service.woke")
    assert woke["seconds"] == NIGHT
    assert not events(event_log, "host.lost")
    assert len(events(event_log, "host.connected")) == 1
    workstation.audit()


async def test_transfer_goes_on_where_it_was(workstation: Workstation, sleeps: Sleeps) -> None:
    """A large file's connections are replaced, too, and what came before the sleep is not sent again."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root, names=LARGE[:1])
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        relay.rate = 8 * MIB
        async with workstation.running() as event_log:
            await until(lambda: journalled(workstation) > 4 * MIB)
            relay.silence()
            assert is_absent(workstation)
            kept = journalled(workstation)
            sleeps.seconds += NIGHT
            await until(lambda: events(event_log, "service.woke"))
            relay.rate, relay.received = None, 0
            await until(is_home(workstation, writer))
            assert relay.received <= SIZE - kept + 2 * MIB
            await until(lambda: staging_is_empty(workstation))
    workstation.audit()


async def test_pauses_end_with_the_sleep(
    workstation: Workstation, sleeps: Sleeps, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host that was lost long ago is not waited for any longer: after a sleep it is tried at once."""
    monkeypatch.setattr("harvestd.harvest.fleet.supervisor.FIRST_PAUSE", 300.0)
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    async with workstation.running() as event_log:
        await until(workstation.stands(RUN.name, "config.yaml"))
        await anyio.to_thread.run_sync(box.server.kill)
        await until(lambda: events(event_log, "host.lost"))
        writer.log_until(2)
        await anyio.to_thread.run_sync(box.server.start)
        sleeps.seconds += NIGHT
        await until(workstation.follows(writer))
        assert len(events(event_log, "host.connected")) == 2
    workstation.audit()


async def test_attempts_to_log_in_are_begun_anew(workstation: Workstation, sleeps: Sleeps) -> None:
    """A log-in that was under way is not waited for either."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        relay.rate = 0
        async with workstation.running(ssh={"connect_timeout": "60s"}) as event_log:
            await until(lambda: relay.open == 1)
            relay.silence()
            relay.rate = None
            sleeps.seconds += NIGHT
            await until(lambda: relay.connections == 2, seconds=2)
            await until(workstation.stands(RUN.name, "config.yaml"))
            assert not events(event_log, "host.lost")
    workstation.audit()


async def test_nothing_happens_while_it_is_awake(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clocks that go on together, and differ by less than a look takes, interrupt nobody."""
    monkeypatch.setattr("harvestd.harvest.fleet.interruptions.CHECK_EVERY", 0.01)
    looks = 0

    def clock() -> float:
        nonlocal looks
        looks += 1
        return 5.0 + 0.005 * (looks % 2)

    waking = SuspendDetector(clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waking.run)
        with waking.until_woken() as scope:
            await until(lambda: looks > 20)
        tasks.cancel_scope.cancel()
    assert not scope.cancel_called
