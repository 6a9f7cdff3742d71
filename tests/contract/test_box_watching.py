"""A box that tells of changes by itself, and looks that are asked for ahead: what the probe adds to polling."""

import os
import signal
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import pytest
from msgspec.structs import replace

from contract.connected import (
    Pins,
    box_at,
    connection_to,
    names,
    probes,
    read,
    target_for,
    training,
    wanted,
    watching,
)
from harvestd.errors import Retry
from harvestd.remote.api import Box, Chunk, Limits, OwnScan, Whole
from harvestd.remote.open import open_box
from harvestd.remote.probe.protocol import Pulse
from harvestd.remote.ssh.connect import connect
from support.openssh import OpenSSHFactory, OpenSSHServer
from support.waiting import DEADLINE

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root with its training tree and one file."""
    (tmp_path / "localfs/training_runs").mkdir(parents=True)
    (tmp_path / "localfs/training_runs/a").write_bytes(b"content")
    return tmp_path / "localfs"


async def heard(box: Box, condition: Callable[[set[str]], bool]) -> set[str]:
    """Return the names that the box told of by itself, once `condition` holds for them."""
    with anyio.fail_after(DEADLINE):
        while True:
            await box.changed()
            paths = names(await box.pushed())
            if condition(paths):
                return paths


async def test_changes_are_told_without_a_question(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """New directories with all that is in them, and what goes, are told as they happen."""
    leaf = root / "training_runs/run/leaf"
    async with box_at(openssh_factory(), replace(watching(training(root)), push=True)) as box:
        assert names(await box.scan()) == {"a"}
        leaf.mkdir(parents=True)
        (leaf / "metrics.csv").write_bytes(b"1")
        assert await heard(box, lambda paths: "run/leaf/metrics.csv" in paths) == {
            "a", "run", "run/leaf", "run/leaf/metrics.csv"
        }  # fmt: skip
        (root / "training_runs/a").unlink()
        assert await heard(box, lambda paths: "a" not in paths) == {"run", "run/leaf", "run/leaf/metrics.csv"}
        assert not (await box.scan()).changed


async def test_what_happens_before_the_watch_stands_is_told(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """Nothing falls between the first look and the kernel's first notice."""
    async with box_at(openssh_factory(), replace(watching(training(root)), push=True)) as box:
        await box.scan()
        for n in range(20):
            (root / f"training_runs/{n}").write_bytes(b"")
        await heard(box, lambda paths: paths == {"a", *map(str, range(20))})


async def test_a_quiet_box_tells_nothing(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """Where nothing happens, and where the box was not asked to tell, nobody is woken."""
    for push in (True, False):
        async with box_at(openssh_factory(), replace(watching(training(root)), push=push)) as box:
            await box.scan()
            if not push:
                (root / "training_runs/b").write_bytes(b"")
            with anyio.move_on_after(0.3) as scope:
                await box.changed()
            assert scope.cancelled_caught


OFTEN = timedelta(milliseconds=50)


@asynccontextmanager
async def scanning_itself(server: OpenSSHServer, root: Path) -> AsyncIterator[Box]:
    """Open a host that scans by itself and receives heartbeats many times a second."""
    watch = replace(watching(training(root)), push=True)
    async with (
        connection_to(server) as connection,
        open_box(connection, watch, Limits(), Pulse(interval=OFTEN), every=OFTEN) as box,
    ):
        yield box


async def reported(box: Box) -> OwnScan:
    """Return the last of the next reports that nothing has changed."""
    with anyio.fail_after(DEADLINE):
        while True:
            await box.changed()
            scans = box.own_scans()
            if scans is None:
                await box.pushed()
            elif scans:
                return scans[-1]


async def test_a_box_reports_its_own_scans(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """Each says when it began at the earliest, by our clock; what a scan finds is pushed, and counts as one, too."""
    async with scanning_itself(openssh_factory(), root) as box:
        began = time.monotonic()
        await box.scan()
        assert began - 1 <= box.last_scan_began <= time.monotonic()
        for _ in range(3):
            before = box.last_scan_began
            with anyio.fail_after(DEADLINE):
                while (scan := await reported(box)).began == before:
                    pass
            assert before < scan.began == box.last_scan_began <= time.monotonic()
            assert scan.duration < 5
        assert not (await box.pushed()).changed
        (root / "training_runs/b").write_bytes(b"")
        assert await heard(box, lambda paths: "b" in paths) == {"a", "b"}


async def test_a_stopped_program_reports_nothing(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """What is not looked at is not reported, and when it goes on the reports are no newer than its scans."""
    server = openssh_factory()
    async with scanning_itself(server, root) as box:
        await box.scan()
        await reported(box)
        (pid,) = probes(server)
        os.kill(pid, signal.SIGSTOP)
        stopped = time.monotonic()
        try:
            with anyio.move_on_after(0.5):
                while True:
                    await box.changed()
                    box.own_scans()
            assert box.last_scan_began <= stopped
            resumed = time.monotonic()
        finally:
            os.kill(pid, signal.SIGCONT)
        await reported(box)
        with anyio.fail_after(DEADLINE):
            while box.last_scan_began < resumed:
                await reported(box)


async def test_reports_are_for_those_who_asked(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """Without an interval, or after it was taken back, there are none."""
    async with scanning_itself(openssh_factory(), root) as box:
        await box.scan()
        await reported(box)
        assert box.scan_every(None)
        await box.scan()
        box.own_scans()
        with anyio.move_on_after(0.3) as scope:
            await box.changed()
        assert scope.cancelled_caught


async def test_a_program_started_anew_is_asked_before_it_is_believed(
    openssh_factory: OpenSSHFactory, root: Path
) -> None:
    """It has shown nothing yet: what it would show unasked is not taken for an empty tree."""
    server = openssh_factory()
    async with scanning_itself(server, root) as box:
        assert names(await box.scan()) == {"a"}
        (pid,) = probes(server)
        os.kill(pid, signal.SIGKILL)
        with pytest.raises(Retry):
            await box.gpu_processes()
        await box.gpu_processes()
        assert names(await box.pushed()) == {"a"}


async def test_a_lost_program_ends_the_waiting(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """Who waits for changes hears at once that the box can't tell of them any more."""
    server = openssh_factory()
    async with box_at(server, replace(watching(training(root)), push=True)) as box:
        await box.scan()
        (pid,) = probes(server)
        os.kill(pid, signal.SIGKILL)
        with anyio.fail_after(DEADLINE), pytest.raises(Retry):
            await box.changed()


async def test_news_that_nobody_takes_hold_up_no_file(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """While a file is being read a box may tell more than may wait here: both arrive, one after the other."""
    content = os.urandom(4_000_000)
    (root / "training_runs/large").write_bytes(content)
    many = {f"{n}{'x' * 100}" for n in range(3000)}
    async with (
        connect(target_for(openssh_factory()), Pins(), window=64 * 1024) as connection,
        open_box(connection, replace(watching(training(root)), push=True), Limits()) as box,
    ):
        await box.scan()
        with anyio.fail_after(2 * DEADLINE):
            async with box.reading([wanted(root, "large")]) as events:
                await anext(events)
                for name in many:
                    (root / "training_runs" / name).write_bytes(b"")
                await box.changed()
                got = b"".join([event.data async for event in events if isinstance(event, Chunk)])
        assert got == content
        await heard(box, lambda paths: many <= paths)


async def test_a_look_that_was_asked_for_ahead(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """It is what the next scan gives, no older than the call; the scan after it is a new one."""
    async with box_at(openssh_factory(), watching(training(root))) as box:
        await box.scan()
        (root / "training_runs/b").write_bytes(b"")
        box.scan_ahead()
        box.scan_ahead()
        assert names(await box.scan()) == {"a", "b"}
        (root / "training_runs/c").write_bytes(b"")
        assert names(await box.scan()) == {"a", "b", "c"}


async def test_small_files_come_in_one_where_that_is_asked_for(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """The same content, version and hash as in pieces; larger ones and parts come in pieces all the same."""
    (root / "training_runs/large").write_bytes(os.urandom(300_000))
    (root / "training_runs/empty").write_bytes(b"")
    requests = [wanted(root, name) for name in ("a", "empty", "large")]
    async with box_at(openssh_factory(), watching(training(root))) as box:
        pieces = await read(box, requests)
        async with box.reading([replace(request, in_one=True) for request in requests]) as events:
            got = [event async for event in events]
    whole = [event for event in got if isinstance(event, Whole)]
    assert (
        [(event.data, event.version, event.sha256.hex()) for event in whole]
        == [
            (answer.data, answer.opened.version, answer.end.sha256)  # type: ignore[union-attr]  # both were read
            for answer in pieces[:2]
        ]
    )
    assert len(got) > len(whole)
