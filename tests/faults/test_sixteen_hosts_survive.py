"""Sixteen hosts in one daemon, seven with a fault each: the fresh files of the nine others arrive within two seconds.

The faults are real ones where a test can make them: OpenSSH servers whose sessions obey permissions, a catalogue on a
file system that runs full, an agent that never answers. Of a machine so busy that the nine alone take long, more time
is allowed: what they take is measured first.
"""

import asyncio
import errno
import socket
import sqlite3
import time
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from harvestd.catalogue.repository import Catalogue
from harvestd.catalogue.state_dir import FILE_NAME
from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import DiskFull
from harvestd.planning.records import ExperimentRecord, RunRecord
from harvestd.report import making
from harvestd.report.small_files import Known
from harvestd.store.root import DataRoot
from support.house import GpuBox, Workstation
from support.large_checkpoints import write_large_checkpoint
from support.openssh import OpenSSHFactory, OpenSSHServer, generate_key, obeying_permissions
from support.raising import Raising, fresh_run, raise_in_tasks_of
from support.small_disks import fill, small_disk
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh, pytest.mark.slow, pytest.mark.alone]

HONEST = tuple(f"gpu-{number}" for number in range(9))
RAISING, MUTE, STALE, REPORT, FULL, UNREADABLE, SHUT = (
    "raising",
    "mute-agent",
    "stale-pub",
    "report",
    "full-disk",
    "unreadable",
    "shut",
)
ROUNDS = 10
FRESH = 2.0
"""Seconds for a fresh file."""
USUAL = 0.5
"""Seconds that the honest hosts alone take at most on a machine that does nothing else."""
TIMEOUT = 120.0
PLACES = 50
"""Awaits at least, in which an exception is raised."""
QUIET = 3
"""Rounds in which nothing new was awaited, after which all was."""
MANY_FILES = 4_000
MANY_SHUT = 10_000
MIB = 1024 * 1024


class Site:
    """The hosts, and what writes on them."""

    def __init__(self, workstation: Workstation) -> None:
        self.workstation = workstation
        self._roots = workstation.config.parent / "roots"
        self.writers: dict[str, RunWriter] = {}
        self.took: list[float] = []
        """Seconds until the last of the honest hosts' fresh lines was here, by rounds."""
        self._steps = 2

    def add(self, name: str, server: OpenSSHServer) -> RunWriter:
        """Let there be a host with a run."""
        root = self._roots / name
        root.mkdir(parents=True)
        writer = RunWriter(root, RunSpec(timestamp=f"2025-08-20_03-31-{len(self.writers):02}"))
        writer.start()
        writer.log_until(self._steps)
        self.workstation.boxes[name] = GpuBox(server, root, server.port)
        self.writers[name] = writer
        return writer

    async def arrive(self, names: Iterable[str]) -> None:
        """Wait until all that was written on these hosts is here."""
        for name in names:
            await until(self.workstation.follows(self.writers[name]), TIMEOUT)

    async def write_rounds(self) -> None:
        """Write a line on each honest host, wait until all of them are here, and again, until cancelled."""
        await self.arrive(HONEST)
        while True:
            self._steps += 1
            began = time.monotonic()
            for name in HONEST:
                self.writers[name].log_step(self._steps)
            await self.arrive(HONEST)
            self.took.append(time.monotonic() - began)


@asynccontextmanager
async def mute_agent(place: Path) -> AsyncIterator[list[socket.socket]]:
    """Listen as an agent that takes connections and never answers; gives those that it took."""
    taken: list[socket.socket] = []
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(place))
        listener.listen()
        listener.setblocking(False)  # noqa: FBT003  (its only argument)

        async def take() -> None:
            while True:
                taken.append((await asyncio.get_running_loop().sock_accept(listener))[0])

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(take)
            yield taken
            tasks.cancel_scope.cancel()
    for each in taken:
        each.close()


def stale_pub(directory: Path, key: Path) -> Path:
    """Return a copy of a key beside which the public half of another one lies."""
    directory.mkdir()
    copy = directory / "key"
    copy.write_bytes(key.read_bytes())
    copy.chmod(0o600)
    other = generate_key(directory / "other")
    copy.with_name("key.pub").write_bytes(other.with_name("other.pub").read_bytes())
    return copy


@pytest.fixture
def state(workstation: Workstation) -> Iterator[Path]:
    """Put the catalogue on a small disk of its own."""
    workstation.state = workstation.data.with_name("state")
    with small_disk(workstation.state, 64 * MIB) as path:
        yield path


def empty_log(catalogue: Path) -> None:
    """Move what the write-ahead log of the catalogue holds to its file."""
    with closing(sqlite3.connect(catalogue)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@pytest.fixture
def full(state: Path, monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Let the state disk run full whenever a run of one host is discovered, the first times; gives the errors."""
    errors: list[int | None] = []
    save = Catalogue.save_discovery

    async def save_discovery(self: Catalogue, experiment: ExperimentRecord, run: RunRecord) -> None:
        if run.host != FULL or len(errors) == 2:
            await save(self, experiment, run)
            return
        # Without room that it has already, the log of the catalogue has to grow.
        await anyio.to_thread.run_sync(empty_log, state / FILE_NAME)
        ballast = state / "ballast"
        fill(ballast)
        try:
            await save(self, experiment, run)
        except DiskFull:
            errors.append(errno.ENOSPC)
            raise
        finally:
            ballast.unlink()

    monkeypatch.setattr(Catalogue, "save_discovery", save_discovery)
    return errors


@pytest.fixture
def broken_reports(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let each report on one host's run raise what nobody expects; gives the experiments."""
    failed: list[str] = []
    write = making.write

    def written(root: DataRoot, known: Known, evals: object) -> object:
        if any(run.host == REPORT for run in known.runs):
            failed.append(known.experiment.id)
            raise KeyError("a defect")
        return write(root, known, evals)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(making, "write", written)
    return failed


def add_unreadable_logs(run: Path) -> None:
    """Let a run have thousands of event files that nobody may read."""
    for number in range(MANY_FILES):
        log = run / "tensorboard" / f"events.out.tfevents.{1_755_000_000 + number}.host.{number}.0"
        log.parent.mkdir(exist_ok=True)
        log.write_bytes(b"x" * 100)
        log.chmod(0)


def add_shut_directory(run: Path) -> None:
    """Let a run have a directory whose thousands of files may be listed, and not looked at."""
    shut = run / "training_state" / "step_20"
    shut.mkdir(parents=True)
    for number in range(MANY_SHUT):
        (shut / f"{number:05}.pt").touch()
    shut.chmod(0o444)


async def test_sixteen_hosts_survive(
    workstation: Workstation,
    openssh_factory: OpenSSHFactory,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    full: list[int | None],
    broken_reports: list[str],
) -> None:
    """Whatever becomes of the seven, the nine others' files come, nothing of theirs fails, and the daemon goes on."""
    server = openssh_factory("all", max_startups="200")
    powerless = openssh_factory("powerless", extra_config=obeying_permissions())
    site = Site(workstation)
    for name in HONEST:
        site.add(name, server)
    async with workstation.running(), anyio.create_task_group() as tasks:
        tasks.start_soon(site.write_rounds)
        await until(lambda: len(site.took) >= ROUNDS, TIMEOUT)
        tasks.cancel_scope.cancel()
    alone, site.took = site.took, []
    allowed = FRESH * max(1.0, max(alone) / USUAL)

    for name in (RAISING, MUTE, STALE, REPORT, FULL):
        site.add(name, server)
    add_unreadable_logs(site.add(UNREADABLE, powerless).directory)
    add_shut_directory(site.add(SHUT, powerless).directory)
    workstation.keys[STALE] = {"identity_files": [str(stale_pub(tmp_path / "stale", server.client_key))]}
    agent = tmp_path / "agent"
    workstation.keys[MUTE] = {"agent": True, "agent_socket": str(agent)}
    assert len(workstation.boxes) == 16
    raising = raise_in_tasks_of(RAISING, monkeypatch)
    asyncio.get_running_loop().set_task_factory(raising.task)
    async with (
        mute_agent(agent) as asked,
        workstation.running() as event_log,
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(site.write_rounds)
        await raise_everywhere(site, raising)
        await site.arrive([MUTE, STALE, REPORT, FULL, UNREADABLE, SHUT])
        await until(lambda: broken_reports and len(site.took) >= ROUNDS, TIMEOUT)
        tasks.cancel_scope.cancel()
    assert max(site.took) <= allowed, f"{site.took}, alone {alone}"
    # Each fault was one, and each host is well again, or told of.
    assert full == [errno.ENOSPC] * 2
    assert asked
    assert events(event_log, "service.failed", service="reports")
    assert {str(each["host"]) for each in events(event_log, "host.failed")} == {RAISING}
    bad = [each for each in event_log if each["event"] in {"host.lost", "host.quarantined", "host.failed"}]
    assert not [each for each in bad if each["host"] in HONEST]
    assert not events(event_log, "service.stuck")


async def raise_everywhere(site: Site, raising: Raising) -> None:
    """Let runs appear on the host that fails until an exception was raised in each await of its life."""
    root = site.workstation.boxes[RAISING].root
    write_large_checkpoint(root)
    quiet = number = 0
    while quiet < QUIET:
        before = len(raising.told)
        number += 1
        await until(site.workstation.follows(fresh_run(root, number)), TIMEOUT)
        await until(lambda: raising.waiting is None, TIMEOUT)
        quiet = quiet + 1 if len(raising.told) == before else 0
    assert len(raising.told) >= PLACES
