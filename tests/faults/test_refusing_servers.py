"""Servers that refuse us, or that we refuse: no room, a revoked key, another host key, or nothing that can be run."""

import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import pairwise

import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.remote.ssh.errors import HostKeyChanged
from support.faults import fired
from support.house import GpuBox, Workstation
from support.openssh import OpenSSHServer
from support.waiting import EventLog, events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
OTHER = RunSpec(timestamp="2025-08-21_03-31-43")


def write_run(box: GpuBox, run: RunSpec = RUN) -> RunWriter:
    """Write a run of two steps that goes on."""
    writer = RunWriter(box.root, run)
    writer.start()
    writer.log_until(2)
    return writer


@contextmanager
def full(server: OpenSSHServer) -> Iterator[None]:
    """Take the only place for those who have not logged in yet, for the body."""
    give_up = time.monotonic() + 10
    while time.monotonic() < give_up:
        with socket.create_connection((server.address, server.port), timeout=10) as place:
            if place.recv(4) == b"SSH-":
                yield
                return
    raise AssertionError("the place did not become free")


def failures(event_log: EventLog, host: str = "gpu-a") -> EventLog:
    """Return all failures of a host, those for who debugs too."""
    return [one for one in event_log if one["event"] in {"host.lost", "host.quarantined"} and one["host"] == host]


async def test_full_sshd_is_tried_again_less_and_less_often(workstation: Workstation) -> None:
    """An sshd that drops connections is lost once, left alone for longer each time, and taken up once it has room."""
    box = workstation.add_box(extra_config=["MaxStartups 1:100:1"])
    writer = write_run(box)
    times: list[float] = []
    with full(box.server):
        async with workstation.running() as event_log:
            while len(times) < 3:
                await until(lambda: len(failures(event_log)) > len(times))
                times.append(time.monotonic())
            assert "MaxStartups" in box.server.log_text()
            fired(7)
            first, second = (later - earlier for earlier, later in pairwise(times))
            assert first >= 0.4
            assert second >= 0.9
            assert len(events(event_log, "host.lost")) == 1
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        assert not events(event_log, "host.quarantined")
    workstation.audit()


async def test_revoked_key_raises_no_storm(workstation: Workstation) -> None:
    """A host that refuses our key is quarantined and left alone, whoever asks; once we are let in it is taken up."""
    boxes = [workstation.add_box(name) for name in ("gpu-a", "gpu-b")]
    writer, other = write_run(boxes[0]), write_run(boxes[1], OTHER)
    server = boxes[0].server
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        await until(workstation.follows(other))
        server.revoke()
        start = len(server.log_text())
        await anyio.to_thread.run_sync(server.restart)
        writer.log_step(3)
        await until(lambda: events(event_log, "host.quarantined", host="gpu-a"))
        assert "Failed publickey" in server.log_text()[start:]
        fired(8)
        looks = len([one for one in event_log if one["event"] == "host.polled"])
        other.log_step(3)
        await until(workstation.follows(other))
        await until(lambda: len([one for one in event_log if one["event"] == "host.polled"]) > looks + 30)
        assert server.log_text()[start:].count("Failed publickey") == 1
        assert len(events(event_log, "host.quarantined")) == 1
        looks = len([one for one in event_log if one["event"] == "host.polled"])
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: len([one for one in event_log if one["event"] == "host.polled"]) > looks + 5)
        assert server.log_text()[start:].count("Failed publickey") == 1
        server.authorize(server.client_key)
        await until(workstation.follows(writer), 90)
    workstation.audit()


async def test_changed_host_key_brings_nothing(workstation: Workstation) -> None:
    """A box that shows another key is not logged in to: nothing of what stands there comes, nothing here changes."""
    box = workstation.add_box()
    write_run(box)
    await workstation.once()
    before, kept = workstation.filed(), workstation.catalogue("SELECT * FROM pins")
    fingerprint = box.server.host_key_fingerprint
    await anyio.to_thread.run_sync(box.server.change_host_key)
    assert box.server.host_key_fingerprint != fingerprint
    fired(9)
    write_run(box, OTHER)
    start = len(box.server.log_text())
    (outcome,) = (await workstation.outcomes()).values()
    assert isinstance(outcome.error, HostKeyChanged)
    assert "publickey" not in box.server.log_text()[start:]
    assert workstation.filed() == before
    assert workstation.catalogue("SELECT * FROM pins") == kept
    workstation.audit()


async def test_new_instance_at_an_old_address_is_another_host(workstation: Workstation) -> None:
    """Its key is pinned beside the old one's, and its runs come beside what the old one left."""
    box = workstation.add_box()
    first = write_run(box)
    await workstation.once()
    kept, here = workstation.catalogue("SELECT identity, key FROM pins"), workstation.filed()
    await anyio.to_thread.run_sync(box.server.change_host_key)
    workstation.boxes = {"gpu-b": GpuBox(box.server, box.root.with_name("gpu-b"), box.port)}
    second = write_run(workstation.boxes["gpu-b"], OTHER)
    await workstation.once()
    pins = workstation.catalogue("SELECT identity, key FROM pins")
    assert len(pins) == len({key for _, key in pins}) == 2
    fired(10)
    assert set(kept) < set(pins)
    assert here.items() <= workstation.filed().items()
    assert workstation.follows(first)()
    assert workstation.follows(second)()
    workstation.audit()


async def test_box_that_runs_nothing_says_how_to_mend_it(workstation: Workstation) -> None:
    """A box with neither Python nor SFTP is quarantined in words that help; the one beside it comes home."""
    workstation.add_box("gpu-a", extra_config=["ForceCommand echo go away >&2; exit 127"])
    writer = write_run(workstation.add_box("gpu-b"), OTHER)
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "host.quarantined", host="gpu-a"))
        (event,) = events(event_log, "host.quarantined")
        assert "neither Python 3 nor SFTP works there" in str(event["error"])
        fired(11)
        assert "install Python 3.6 or newer" in str(event["hint"])
        await until(workstation.follows(writer))
        assert not events(event_log, "host.connected", host="gpu-a")
    workstation.audit()


async def test_one_session_is_enough_for_a_daemon(workstation: Workstation) -> None:
    """Where sshd opens one session a connection, all comes home over that one."""
    box = workstation.add_box(extra_config=["MaxSessions 1"])
    writer = write_run(box)
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        writer.log_step(3)
        await until(workstation.follows(writer))
        assert not failures(event_log)
    workstation.audit()
