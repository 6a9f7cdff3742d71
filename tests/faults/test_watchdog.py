"""What a service manager hears: the daemon is ready, reloads, stops, and is alive only while its event loop turns."""

import signal
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import timedelta
from pathlib import Path
from typing import NoReturn

import anyio.to_thread
import pytest
import structlog.testing

from harvestd import service
from harvestd.bulkhead import Bulkhead
from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import Retry
from harvestd.harvest.host import observer
from harvestd.remote.api import OnPartialScan
from harvestd.remote.probe.client import ProbeBox
from harvestd.telemetry import service_manager
from harvestd.telemetry.service_manager import ALIVE, GRACE, READY, STOPPING, Deadlines, ServiceManager
from support.faults import fired
from support.house import Workstation
from support.manager import Manager, place_in
from support.waiting import events, until

WATCHDOG = 1.0
"""Seconds of silence after which the manager of these tests would kill."""


@pytest.fixture(params=[False, True], ids=["path", "abstract"])
def manager(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Manager]:
    """Provide a manager that nobody was told of yet."""
    with closing(Manager(place_in(tmp_path, abstract=request.param))) as listening:
        yield listening


def announce(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    """Have every program that is started from now on tell the manager; sshd does so, too, and must run before."""
    monkeypatch.setenv("NOTIFY_SOCKET", manager.place)
    monkeypatch.setenv("WATCHDOG_USEC", str(int(WATCHDOG * 1_000_000)))


@pytest.mark.anyio
@pytest.mark.openssh
async def test_the_manager_hears_of_a_whole_life(
    workstation: Workstation, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """READY, signs of life while a box is down, RELOADING and READY on HUP, STOPPING on TERM: in that order."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RunSpec())
    writer.start()
    writer.log_until(2)
    workstation.settings()
    announce(manager, monkeypatch)
    with workstation.program() as process:
        await until(lambda: manager.count(READY) == 1)
        assert manager.words[0].startswith("EXTEND_TIMEOUT_USEC=")
        await until(lambda: manager.status().startswith("1 of 1 hosts connected; last success 20"))
        await until(workstation.follows(writer))
        await anyio.to_thread.run_sync(box.server.kill)
        await until(lambda: manager.status().startswith("0 of 1 hosts connected"))
        before, started = manager.count(ALIVE), time.monotonic()
        await until(lambda: manager.count(ALIVE) >= before + 4)
        assert time.monotonic() - started < 10 * WATCHDOG  # two of them, where the machine is not busy
        process.send_signal(signal.SIGHUP)
        await until(lambda: manager.count(READY) == 2)
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None)
    told = [word for word in manager.hear() if not word.startswith(("WATCHDOG", "STATUS", "EXTEND"))]
    assert [word.split("=")[0] for word in told] == ["READY", "RELOADING", "MONOTONIC_USEC", "READY", "STOPPING"]
    assert process.returncode == 0
    workstation.audit()


@pytest.mark.anyio
@pytest.mark.openssh
async def test_a_wedged_event_loop_is_heard_of_no_more(
    workstation: Workstation, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Signs of life end when something blocks the loop, so that the manager kills; the next start goes on."""
    writer = RunWriter(workstation.add_box().root, RunSpec())
    writer.start()
    writer.log_until(2)
    workstation.settings()
    announce(manager, monkeypatch)
    with workstation.program() as process:
        await until(lambda: manager.count(ALIVE) >= 2)
        await until(workstation.follows(writer))
        process.send_signal(signal.SIGUSR2)
        silent, heard = time.monotonic(), manager.count(ALIVE)
        while time.monotonic() - silent < 2 * WATCHDOG:
            await anyio.sleep(0.05)
            if manager.count(ALIVE) > heard:
                # The signal was on its way.
                silent, heard = time.monotonic(), manager.count(ALIVE)
            assert process.poll() is None
        fired(38)
        # What systemd does then.
        process.send_signal(signal.SIGABRT)
        await until(lambda: process.poll() is not None)
    assert process.returncode == -signal.SIGABRT
    writer.log_step(3)
    with workstation.program() as process:
        await until(workstation.follows(writer))
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None)
    assert process.returncode == 0
    workstation.audit()


@pytest.mark.anyio
async def test_a_task_past_its_deadline_ends_the_signs_of_life(manager: Manager) -> None:
    """The loop turns and the line says what is stuck, but no word of life is sent until the task has come round."""
    now = 0.0
    deadlines = Deadlines(lambda: now)
    told = ServiceManager({"NOTIFY_SOCKET": manager.place, "WATCHDOG_USEC": "200000"})
    with structlog.testing.capture_logs() as event_log:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.report, told, lambda: "well", deadlines, Bulkhead())
            await until(lambda: manager.count(ALIVE) >= 2)
            with deadlines.within(1, "a look at gpu-a"):
                now = 2 + GRACE
                stuck = service_manager.status("stuck, past its deadline: a look at gpu-a")
                await until(lambda: manager.count(stuck) >= 1)
                before = manager.count(ALIVE)
                await until(lambda: manager.count(stuck) >= 4)
                assert manager.count(ALIVE) == before
            await until(lambda: manager.count(ALIVE) > before)
            tasks.cancel_scope.cancel()
    assert [(one["event"], one["what"]) for one in event_log] == [("service.stuck", "a look at gpu-a")]


@pytest.mark.anyio
async def test_a_task_past_its_deadline_is_told_without_a_service_manager() -> None:
    """In a container or a terminal, where nobody watches the daemon, its own log names what is stuck."""
    now = 0.0
    deadlines = Deadlines(lambda: now)
    with structlog.testing.capture_logs() as event_log:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(service.report, ServiceManager({}), lambda: "well", deadlines, Bulkhead())
            with deadlines.within(1, "a scan of gpu-a"):
                now = 2 + GRACE
                await until(lambda: events(event_log, "service.stuck", what="a scan of gpu-a"))
            tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.openssh
async def test_a_look_that_can_not_be_interrupted_is_stuck(
    workstation: Workstation, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look that hangs beyond its deadline, on a loop that turns, is named, and no word of life is sent of it."""
    hanging, goes_on = anyio.Event(), anyio.Event()

    async def scan(_box: ProbeBox, _on_partial: OnPartialScan) -> NoReturn:
        with anyio.CancelScope(shield=True):
            hanging.set()
            await goes_on.wait()
        raise Retry("it came round in the end")

    workstation.add_box()
    announce(manager, monkeypatch)
    monkeypatch.setattr(ProbeBox, "scan", scan)
    monkeypatch.setattr(observer, "SCANS", 0.001)
    monkeypatch.setattr(service_manager, "GRACE", 0.1)
    async with workstation.running() as event_log:
        await until(hanging.is_set)
        await until(lambda: manager.status() == "stuck, past its deadline: a look at gpu-a")
        before, status = manager.count(ALIVE), manager.words.count("STATUS=stuck, past its deadline: a look at gpu-a")
        await until(lambda: manager.count("STATUS=stuck, past its deadline: a look at gpu-a") > status + 2)
        assert manager.count(ALIVE) == before
        assert len(events(event_log, "service.stuck", what="a look at gpu-a")) == 1
        goes_on.set()
        await until(lambda: manager.count(ALIVE) > before)


def test_without_a_manager_nothing_is_said(tmp_path: Path) -> None:
    """No socket, one that nobody listens at, one of another kind: telling is silent and harmless."""
    for place in ("", str(tmp_path / "nobody"), "@harvestd-nobody", "vsock:2:1", str(tmp_path)):
        ServiceManager({"NOTIFY_SOCKET": place}).notify(READY)
    assert not ServiceManager({}).listens


def test_a_manager_that_reads_nothing_holds_nobody_up(tmp_path: Path) -> None:
    """A full socket drops words at once."""
    with closing(Manager(place_in(tmp_path, abstract=False))) as deaf:
        manager = ServiceManager({"NOTIFY_SOCKET": deaf.place})
        for _ in range(2_000):
            manager.notify(STOPPING)
        assert 0 < deaf.count(STOPPING) < 2_000


@pytest.mark.parametrize(
    ("env", "watchdog"),
    [
        ({"WATCHDOG_USEC": "30000000"}, timedelta(seconds=30)),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "soon"}, None),
        ({}, None),
    ],
)
def test_the_watchdog_is_ours_only_where_it_says_so(env: dict[str, str], watchdog: timedelta | None) -> None:
    """A watchdog of another process, or none, is not fed."""
    assert ServiceManager(env).watchdog == watchdog


def test_words_are_one_line_each() -> None:
    """A status can't smuggle in a second word."""
    assert service_manager.status("a\nREADY=1") == "STATUS=a READY=1"
    assert service_manager.more_time(timedelta(seconds=2)) == "EXTEND_TIMEOUT_USEC=2000000"
