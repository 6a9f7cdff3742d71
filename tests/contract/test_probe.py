"""What only the probe promises: small answers, a start on any shell, no trace, and an end of its own."""

import os
import re
import signal
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from msgspec.structs import replace

from contract.connected import (
    Pins,
    box_at,
    connection_to,
    fill,
    names,
    probes,
    read,
    sftp_program,
    target_for,
    training,
    wanted,
    watching,
)
from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.snapshot import Entry, Tree
from harvestd.errors import HostQuarantined, Retry
from harvestd.remote.api import Chunk, Closed, Failed, Limits, ReadRequest
from harvestd.remote.open import open_box
from harvestd.remote.probe.protocol import Pulse
from harvestd.remote.ssh.connect import connect
from support.faults import fired
from support.openssh import OpenSSHFactory
from support.relay import relayed

MIB = 1024 * 1024
DAY = timedelta(days=1)

_BULK_WINDOW = 16 * 1024 * 1024
pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root with its training tree and one file."""
    (tmp_path / "localfs/training_runs").mkdir(parents=True)
    (tmp_path / "localfs/training_runs/a").write_bytes(b"content")
    return tmp_path / "localfs"


def the_file(root: Path) -> ReadRequest:
    """Ask for the only file."""
    return ReadRequest(training(root), RemotePath(("a",)))


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    """Return when `condition` holds; fails after `seconds`."""
    with anyio.fail_after(seconds):
        while not condition():  # noqa: ASYNC110  (what is waited for happens in other processes)
            await anyio.sleep(0.01)


async def test_unchanged_scan_is_small(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """A poll that finds nothing new costs less than 200 bytes of answer, whatever the tree's size."""
    for n in range(500):
        (root / f"training_runs/{n}").write_bytes(b"")
    async with (
        connection_to(openssh_factory()) as connection,
        open_box(connection, watching(training(root)), Limits()) as box,
    ):
        await box.scan()
        before = connection.meter.total
        assert not (await box.scan()).changed
        # 200, and what SSH itself adds: headers, padding, a window's adjustment.
        assert connection.meter.total - before < 400


@pytest.mark.parametrize(
    "start_files",
    ["echo noise; printf \\'more\\'", "head -c 60000 /dev/zero", "printf \\'\\\\033[31m\\'; echo oops >&2"],
)
async def test_noise_of_start_files_is_skipped(openssh_factory: OpenSSHFactory, root: Path, start_files: str) -> None:
    """Whatever a shell prints before the program starts does no harm."""
    start_files = start_files.replace("\\'", "'")
    server = openssh_factory(extra_config=[f'ForceCommand {start_files}; eval "$SSH_ORIGINAL_COMMAND"'])
    async with box_at(server, watching(training(root))) as box:
        assert box.method == "probe"
        (answer,) = await read(box, [the_file(root)])
    assert answer.data == b"content"


async def test_noise_without_end_is_no_probe(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """A login that only prints is neither probe nor SFTP, and the error says so in bounded time."""
    server = openssh_factory(extra_config=["ForceCommand yes nothing to see here"])
    with anyio.fail_after(30), pytest.raises(HostQuarantined, match="neither Python 3 nor SFTP"):
        async with box_at(server, watching(training(root))):
            pass


async def test_neither_python_nor_sftp(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """A box that runs nothing is quarantined with a way out, and what it said is shown escaped."""
    server = openssh_factory(extra_config=["ForceCommand printf '\\033[31mgo away' >&2; exit 127"])
    with pytest.raises(HostQuarantined, match="neither Python 3 nor SFTP") as raised:
        async with box_at(server, watching(training(root))):
            pass
    assert "127" in str(raised.value)
    fired(11)
    assert "go away" in str(raised.value)
    assert "\x1b" not in str(raised.value)
    assert "Python 3.6" in raised.value.hint


async def test_box_without_python_is_read_over_sftp(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """Where commands run but Python does not, the stand-in takes over."""
    server = openssh_factory(
        extra_config=[
            f"Subsystem sftp {sftp_program()}",
            'ForceCommand case "$SSH_ORIGINAL_COMMAND" in *sftp*) exec $SSH_ORIGINAL_COMMAND;; esac; exit 127',
        ],
    )
    async with box_at(server, watching(training(root))) as box:
        assert box.method == "sftp"
        (answer,) = await read(box, [the_file(root)])
    assert answer.data == b"content"


async def test_facts(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """The machine says its name, its Python, its clock's offset and its free space."""
    async with box_at(openssh_factory(), watching(training(root))) as box:
        facts = await box.facts()
    assert facts.hostname == os.uname().nodename
    assert re.fullmatch(r"3\.\d+\.\d+", facts.python)
    assert facts.utc_offset == timedelta(seconds=time.localtime().tm_gmtoff)
    assert facts.free_bytes
    assert abs(facts.free_bytes - _free(root)) < 2**30


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("echo 4000; echo 4001", 2),
        (":", 0),
        ("echo [Not Supported]", None),
        ("echo 4000; exit 9", None),
        (None, 0),
    ],
)
async def test_processes_on_the_gpus(
    openssh_factory: OpenSSHFactory, root: Path, tmp_path: Path, output: str | None, expected: int | None
) -> None:
    """They are counted as nvidia-smi tells; where it does not, nobody knows; where there is none, there are none."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    if output is not None:
        smi.write_text(f"#!/bin/sh\ncase $1 in *compute-apps=pid) {output};; *) exit 1;; esac\n")
        smi.chmod(0o755)
    with_path = f'ForceCommand export PATH="{smi.parent}"; eval "$SSH_ORIGINAL_COMMAND"'
    async with box_at(openssh_factory(extra_config=[with_path]), watching(training(root))) as box:
        assert await box.gpu_processes() == expected
        assert (await box.facts()).gpu_names == ()
        assert await box.gpu_processes() == expected
        assert (await box.scan()).changed


def _free(root: Path) -> int:
    s = os.statvfs(root)
    return s.f_bavail * s.f_frsize


async def test_filesystem_and_device_are_told(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """A listing carries the tree's device and its file system's kind, as the mount table has it."""
    async with box_at(openssh_factory(), watching(training(root))) as box:
        snapshot = await box.scan()
    (listing,) = snapshot.listings
    assert listing.device == os.stat(root).st_dev  # noqa: PTH116  (as the box does it)
    assert listing.filesystem in mounted_kinds()
    assert abs(snapshot.box_time_ns - time.time_ns()) < 60 * 10**9


def mounted_kinds() -> set[str]:
    """Return the kinds of all mounted file systems."""
    return {line.split(" - ")[1].split()[0] for line in Path("/proc/self/mountinfo").read_text().splitlines()}


def everything(root: Path) -> dict[Path, tuple[int, int, int]]:
    """Return what an honest reader must not change: times and modes of all that is there."""
    found = {}
    for path in [root, *root.rglob("*")]:
        s = path.lstat()
        found[path] = (s.st_mtime_ns, s.st_ctime_ns, s.st_mode)
    return found


async def test_program_runs_gently_and_leaves_no_trace(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """The program runs at a low priority, and the tree is byte by byte and time by time as before."""
    server = openssh_factory()
    before = everything(root)
    async with box_at(server, watching(training(root))) as box:
        await box.scan()
        await read(box, [the_file(root)])
        running = probes(server)
        assert len(running) == 1
        lowered = min(19, os.getpriority(os.PRIO_PROCESS, 0) + 10)
        assert {os.getpriority(os.PRIO_PROCESS, pid) for pid in running} == {lowered}
    assert everything(root) == before


async def test_programs_end_with_the_box(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """Leaving the box ends its programs, while the connection stays."""
    server = openssh_factory()
    async with connection_to(server) as connection:
        async with open_box(connection, watching(training(root)), Limits()) as box:
            await box.scan()
            await read(box, [the_file(root)])
            assert len(probes(server)) == 1
        await until(lambda: not probes(server))
        assert not connection.ssh.is_closed()


async def test_no_orphan_after_a_cut_connection(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """When the link is cut, the programs end by themselves, one that is held back in the middle of a file too."""
    (root / "training_runs/big").write_bytes(b"")
    os.truncate(root / "training_runs/big", 2**30)
    server = openssh_factory()
    big = ReadRequest(training(root), RemotePath(("big",)))
    async with (
        connection_to(server) as connection,
        open_box(connection, watching(training(root)), Limits()) as box,
        box.reading([big]) as events,
    ):
        await anext(events)
        assert len(probes(server)) == 1
        connection.ssh.abort()
        await until(lambda: not probes(server))


async def test_program_ends_without_heartbeat(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """A program that hears nothing for its time ends, though its connection stands; the next question is a retry."""
    pulse = Pulse(interval=timedelta(hours=1), silence=timedelta(seconds=0.5))
    server = openssh_factory()
    async with (
        connection_to(server) as connection,
        open_box(connection, watching(training(root)), Limits(), pulse) as box,
    ):
        assert probes(server)
        await until(lambda: not probes(server))
        assert not connection.ssh.is_closed()
        # The next question finds a program that has ended and starts another, from nothing.
        await until(lambda: not box._running._process.alive)  # type: ignore[attr-defined]  # the probe's own process
        assert (await box.scan()).changed


async def test_heartbeats_keep_a_quiet_program(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """With heartbeats a program outlives its time of silence many times over."""
    pulse = Pulse(interval=timedelta(seconds=0.1), silence=timedelta(seconds=1))
    server = openssh_factory()
    async with (
        connection_to(server) as connection,
        open_box(connection, watching(training(root)), Limits(), pulse) as box,
    ):
        first = probes(server)
        began = time.monotonic()
        await until(lambda: time.monotonic() - began > 2.5)
        assert probes(server) == first
        assert (await box.scan()).changed


async def test_stuck_program_is_told_by_its_silence(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """A program that hangs makes its question a retry after the answer time, and the next one starts another."""
    server = openssh_factory()
    limits = Limits(answer_time=timedelta(seconds=2))
    async with box_at(server, watching(training(root)), limits) as box:
        await box.scan()
        (pid,) = probes(server)
        os.kill(pid, signal.SIGSTOP)
        with anyio.fail_after(60), pytest.raises(Retry, match="no byte of an answer"):
            await box.scan()
        os.kill(pid, signal.SIGKILL)
        assert (await box.scan()).changed


async def test_killed_program_is_a_retry(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """A program that was killed on the box (out of memory) is started again by the next question."""
    server = openssh_factory()
    async with box_at(server, watching(training(root))) as box:
        first = await box.scan()
        (pid,) = probes(server)
        os.kill(pid, signal.SIGSTOP)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_expect_retry, box.scan)
            await anyio.lowlevel.checkpoint()
            os.kill(pid, signal.SIGKILL)
        second = await box.scan()
    assert second.changed
    assert [each.entries for each in second.listings] == [each.entries for each in first.listings]


async def _expect_retry(question: Callable[[], object]) -> None:
    with pytest.raises(Retry):
        await question()  # type: ignore[misc]  # any coroutine function


async def test_one_session_is_enough(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """Where sshd opens no further session, looks and readings share the one there is."""
    server = openssh_factory(extra_config=["MaxSessions 1"])
    async with box_at(server, watching(training(root))) as box:
        await box.scan()
        (answer,) = await read(box, [the_file(root)])
        assert answer.data == b"content"
        assert not (await box.scan()).changed


async def test_too_many_sessions_is_a_retry(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """Where a connection's only session is taken, another box on it is tried again later."""
    server = openssh_factory(extra_config=["MaxSessions 1"])
    async with connection_to(server) as connection, open_box(connection, watching(training(root)), Limits()) as box:
        with pytest.raises(Retry, match="no further session"):
            async with open_box(connection, watching(training(root)), Limits()):
                pass
        assert "no more sessions" in server.log_text()
        fired(7)
        assert (await box.scan()).changed


async def test_rewritten_within_a_tick_is_noticed(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """A file that is written again and again within ticks does not pass off mixed bytes as one version.

    Time stamps are set when a write begins: one that the kernel suspends for longer than a tick, as a busy machine may,
    can't be told from one that has ended. So a few mixed answers are let pass; without its guard most are mixed.
    """
    place = root / "training_runs/a"
    done = False
    mixed = 0

    def rewrite() -> None:
        letter = 0
        while not done:
            letter = (letter + 1) % 26
            with place.open("r+b") as file:
                file.write(bytes([65 + letter]) * 300_000)
            # A thread that gives way by itself is rarely suspended in the middle of a write.
            time.sleep(0.001)

    place.write_bytes(b"A" * 300_000)
    async with box_at(openssh_factory(), watching(training(root))) as box, anyio.create_task_group() as tasks:
        tasks.start_soon(anyio.to_thread.run_sync, rewrite)
        try:
            for _ in range(10):
                (answer,) = await read(box, [the_file(root)])
                one_version = isinstance(answer.end, Closed) and answer.opened is not None
                if one_version and answer.opened.version == answer.end.version:  # type: ignore[union-attr]  # as checked
                    mixed += len(set(answer.data)) > 1
                elif isinstance(answer.end, Failed):
                    assert answer.end.reason == "written to without a pause"
        finally:
            done = True
    assert mixed <= 3


async def test_last_file_is_the_end(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """Who leaves a reading after its last file has abandoned nothing: the same program reads on."""
    server = openssh_factory()
    async with box_at(server, watching(training(root))) as box:
        used = []
        for _ in range(2):
            async with box.reading([the_file(root)]) as events:
                async for event in events:
                    if isinstance(event, Closed):
                        break
            used.append(probes(server))
    assert len(used[0]) == 1
    assert used[0] == used[1]


async def test_cancelled_scan_leaves_nothing_half_known(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """A scan that is cancelled infers nothing: the next one is whole again."""
    server = openssh_factory()
    async with box_at(server, watching(training(root))) as box:
        first = await box.scan()
        with anyio.move_on_after(0):
            await box.scan()
        again = await box.scan()
        assert [each.entries for each in again.listings] == [each.entries for each in first.listings]


async def test_pins_are_shared_by_connections(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """A second connection to a box compares with what the first one kept."""
    server, pins = openssh_factory(), Pins()
    async with connect(target_for(server), pins):
        kept = dict(pins.kept)
    async with connect(target_for(server), pins) as again, open_box(again, watching(training(root)), Limits()) as box:
        assert (await box.scan()).changed
    assert pins.kept == kept


async def test_slow_reader_of_a_bulk_window_holds_no_more_than_the_window(
    openssh_factory: OpenSSHFactory, root: Path
) -> None:
    """However the reader dawdles, an honest box is held back, and never taken for one that floods us."""
    size = 96 * MIB
    place = root / "training_runs" / "optimizer.pt"
    place.touch()
    os.truncate(place, size)
    got = taken = 0
    async with (
        connect(target_for(openssh_factory()), Pins(), window=_BULK_WINDOW) as connection,
        open_box(connection, watching(training(root)), Limits()) as box,
        box.reading([wanted(root, "optimizer.pt")]) as events,
    ):
        async for event in events:
            if not isinstance(event, Chunk):
                continue
            got += len(event.data)
            taken += 1
            if taken % 40 == 0:
                # Long enough for whatever is allowed to be on its way to arrive.
                await anyio.sleep(0.05)
            assert connection.meter.total - got < _BULK_WINDOW + 4 * MIB
    assert got == size


async def test_text_is_packed_where_the_link_is_slow(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """Text crosses a slow link in a fraction of its bytes, and arrives as it is."""
    text = b"".join(b"%d,1.0,1,0.375,0,0,1,1,87,133\n" % n for n in range(120_000))
    (root / "training_runs/metrics.csv").write_bytes(text)
    server = openssh_factory()
    async with relayed(server.port) as relay:
        relay.rate = 2_000_000
        async with (
            connect(replace(target_for(server), port=relay.port), Pins(), window=256 * 1024) as connection,
            open_box(connection, watching(training(root)), Limits()) as box,
        ):
            (answer,) = await read(box, [wanted(root, "metrics.csv")])
        assert answer.data == text
        assert relay.received < len(text) * 2 / 3


async def test_a_look_is_glimpsed_piece_by_piece(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """All that the whole look shows was glimpsed before, in its tree; the next look shows its news only."""
    glimpsed: list[tuple[Tree, set[str]]] = []

    def on_partial(tree: Tree, entries: Sequence[Entry]) -> None:
        glimpsed.append((tree, {str(each.path) for each in entries}))

    fill(root, {f"{run}/{n}": b"x" for run in range(3) for n in range(1500)})
    async with box_at(openssh_factory(), watching(training(root))) as box:
        whole = names(await box.scan(on_partial))
        assert len(glimpsed) > 1
        assert {tree for tree, _ in glimpsed} == {training(root)}
        assert set().union(*(paths for _, paths in glimpsed)) == whole
        glimpsed.clear()
        fill(root, {"new": b"x"})
        await box.scan(on_partial)
    assert glimpsed == [(training(root), {"new"})]


async def test_a_question_that_is_cancelled_leaves_the_program_to_others(
    openssh_factory: OpenSSHFactory, root: Path
) -> None:
    """The program runs on, the wait for news goes on, and what is asked next is answered."""
    server = openssh_factory()
    lost = False
    async with box_at(server, replace(watching(training(root)), push=True)) as box:
        await box.scan()
        facts = await box.facts()
        (program,) = probes(server)

        async def wait_for_news() -> None:
            nonlocal lost
            try:
                await box.changed()
            except Retry:
                lost = True

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait_for_news)
            # With no time no files are searched for, of which the machine's /tmp may hold any number.
            for lately in (DAY, timedelta(), timedelta()):
                for ask in (box.gpu_processes, box.facts, box.scan_whole, box.scan, partial(box.circumstances, lately)):
                    async with anyio.create_task_group() as asking:
                        asking.start_soon(ask)
                        await anyio.wait_all_tasks_blocked()
                        asking.cancel_scope.cancel()
                assert replace(await box.facts(), free_bytes=None) == replace(facts, free_bytes=None)
                await box.gpu_processes()
                await box.circumstances(timedelta())
                (root / "training_runs" / "b").write_bytes(b"new")
                assert names(await box.scan()) == {"a", "b"}
                (root / "training_runs" / "b").unlink()
                assert names(await box.scan_whole()) == {"a"}
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    await box.scan()
                assert names(await box.pushed()) == {"a"}
            assert probes(server) == [program]
            assert not lost
            tasks.cancel_scope.cancel()
