"""Sixteen hosts in one daemon, seven with a fault each: the others' fresh files arrive as if they were alone.

How long a fresh file may take is measured in the same test, with the honest hosts alone in a daemon: this machine may
be busy.
"""

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import cast

import anyio
import pytest

from harvestd.bulkhead import Bulkhead
from harvestd.catalogue.catalogue import Catalogue
from harvestd.catalogue.database import Database
from harvestd.convention.records import ExperimentRecord, RunRecord
from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import DiskFull
from harvestd.harvest.watcher import Watcher
from harvestd.report import making
from harvestd.report.known import Known
from harvestd.store.root import DataRoot
from support.house import GpuBox, Workstation
from support.lying import Asked, Liar, Row, add_port, end, listening, scan_part, settled, told
from support.openssh import OpenSSHFactory, generate_key
from support.raising import Raising
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh, pytest.mark.slow, pytest.mark.alone]

HONEST = 9
ROUNDS = 6
FRESH = 2.0
"""Seconds for a fresh file, unless the machine is busy."""
LATE = 15.0
"""Seconds beyond which no machine is that busy."""
BUSY = 4
"""How many times as long as with the honest hosts alone it may take then."""
LONG = 40.0
RAISING, MUTE, STALE, REPORT, FULL, UNREADABLE, SHUT = (
    "raising",
    "mute-agent",
    "stale-pub",
    "report",
    "full-disk",
    "unreadable",
    "shut",
)
FAULTY = (RAISING, MUTE, STALE, REPORT, FULL, UNREADABLE, SHUT)
MANY_FILES = 4_000
MANY_SHUT = 10_000


def run_of(number: int) -> RunSpec:
    """Give the run of one host."""
    return RunSpec(timestamp=f"2025-08-20_03-31-{number:02}")


class Site:
    """The hosts, and what writes on them."""

    def __init__(self, workstation: Workstation, servers: OpenSSHFactory) -> None:
        self.workstation = workstation
        self._server = servers("all", max_startups="200")
        self._roots = workstation.config.parent / "roots"
        self.writers: dict[str, RunWriter] = {}
        self.steps = 2

    def begin(self, name: str) -> Path:
        """Let there be a host with a run; gives its root."""
        root = self._roots / name
        root.mkdir(parents=True)
        writer = self.writers[name] = RunWriter(root, run_of(len(self.writers)))
        writer.start()
        writer.log_until(self.steps)
        return root

    def add(self, name: str) -> Path:
        """Let there be a host that a real server shows."""
        root = self.begin(name)
        self.workstation.boxes[name] = GpuBox(self._server, root, self._server.port)
        return root

    async def freshest(self, names: Iterable[str]) -> float:
        """Write a line on each of these hosts, and give the seconds until the last of them is here."""
        self.steps += 1
        began = time.monotonic()
        writers = [self.writers[name] for name in names]
        for writer in writers:
            writer.log_step(self.steps)
        for writer in writers:
            await until(self.workstation.follows(writer), LONG)
        return time.monotonic() - began


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
    """Give a copy of a key beside which the public half of another one lies."""
    directory.mkdir()
    copy = directory / "key"
    copy.write_bytes(key.read_bytes())
    copy.chmod(0o600)
    other = generate_key(directory / "other")
    copy.with_name("key.pub").write_bytes(other.with_name("other.pub").read_bytes())
    return copy


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Raising:
    """Raise in each await of one host, once, when the loop has it as its task factory."""
    made = Raising()
    watch, report = Watcher.run, Bulkhead.report

    async def watched(self: Watcher) -> None:
        made.subject.set(self._host.name == RAISING)
        await watch(self)

    def heard(self: Bulkhead, subject: str, error: Exception, **fields: object) -> None:
        made.hear(error)
        report(self, subject, error, **fields)

    monkeypatch.setattr(Watcher, "run", watched)
    monkeypatch.setattr(Bulkhead, "report", heard)
    monkeypatch.setattr("harvestd.harvest.breaker._FIRST_PAUSE", 0.05)
    monkeypatch.setattr("harvestd.harvest.breaker._LONGEST_PAUSE", 0.2)
    return made


@pytest.fixture
def full(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the state disk be full whenever a run of one host is discovered, the first times; gives those times."""
    times: list[str] = []
    save, write = Catalogue.save_discovery, Database.write
    discovering: list[str] = []

    async def save_discovery(self: Catalogue, experiment: ExperimentRecord, run: RunRecord) -> None:
        if run.host != FULL:
            await save(self, experiment, run)
            return
        discovering.append(run.name)
        try:
            await save(self, experiment, run)
        finally:
            discovering.clear()

    async def written(self: Database, change: object) -> None:
        if discovering and len(times) < 2:
            times.append(discovering[0])
            raise DiskFull("no room for the catalogue")
        await write(self, change)  # type: ignore[arg-type]  # handed on

    monkeypatch.setattr(Catalogue, "save_discovery", save_discovery)
    monkeypatch.setattr(Database, "write", written)
    return times


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


def many_unreadable_files(root: Path, run: RunSpec) -> Liar:
    """Give a host that shows a run with thousands of logs that nobody may read."""
    names = [f"events.out.tfevents.{1_755_000_000 + n}.host.{n}.0" for n in range(MANY_FILES)]
    rows: list[tuple[str, str, Row]] = [
        ("training_runs", f"{run.name}/tensorboard", [name, "f", 100, 1, 1, n + 2]) for n, name in enumerate(names)
    ]
    denied = set(names)

    def read(number: int, path: str) -> bytes | None:
        refused = path.rpartition("/")[2] in denied
        return told(b"X", {"id": number, "reason": "Permission denied"}) if refused else None

    return Liar(root, rows=rows, read=read)


def many_shut_places(root: Path) -> Liar:
    """Give a host of whose places thousands can't be looked at; each look finds one more."""
    liar = Liar(root)
    looks, step = 0, 2_000
    lists = [[f"secret/{n:05}" for n in range(start, start + step)] for start in range(0, MANY_SHUT, step)]
    first = b"".join(scan_part(shut=each) for each in lists)

    def scan(asked: Asked) -> bytes:
        nonlocal looks
        looks += 1
        liar.heard.append("shut")
        # As a probe does: what it told before it does not tell again.
        before = first + liar.look(asked) if looks == 1 else b""
        ended = end(asked["id"], len(cast("list[object]", asked["trees"])))
        return before.removesuffix(ended) + scan_part(shut=[f"more/{looks}"]) + ended

    liar.scan = scan
    return liar


async def test_sixteen_hosts_survive(
    workstation: Workstation,
    openssh_factory: OpenSSHFactory,
    tmp_path: Path,
    raising: Raising,
    full: list[str],
    broken_reports: list[str],
) -> None:
    """Whatever becomes of the seven, the nine others' files come, nothing of theirs fails, and the daemon goes on."""
    site = Site(workstation, openssh_factory)
    honest = [f"gpu-{number}" for number in range(HONEST)]
    for name in honest:
        site.add(name)
    async with workstation.running():
        await site.freshest(honest)
        control = max([await site.freshest(honest) for _ in range(ROUNDS)])
    allowed = max(FRESH, BUSY * control)
    for name in (RAISING, MUTE, STALE, REPORT, FULL):
        site.add(name)
    key = workstation.boxes[STALE].server.client_key
    workstation.keys[STALE] = {"identity_files": [str(stale_pub(tmp_path / "stale", key))]}
    agent = tmp_path / "agent"
    workstation.keys[MUTE] = {"agent": True, "agent_socket": str(agent)}
    unreadable = many_unreadable_files(site.begin(UNREADABLE), site.writers[UNREADABLE].run)
    shut = many_shut_places(site.begin(SHUT))
    for liar in (unreadable, shut):
        settled(liar.root)
    asyncio.get_running_loop().set_task_factory(raising.task)
    async with (
        mute_agent(agent) as asked,
        listening(unreadable.script) as first,
        listening(shut.script) as second,
    ):
        add_port(workstation, UNREADABLE, first, unreadable.root)
        add_port(workstation, SHUT, second, shut.root)
        assert len(workstation.boxes) == 16
        async with workstation.running() as said:
            await site.freshest(honest)
            took = [await site.freshest(honest) for _ in range(ROUNDS)]
            await until(lambda: len(broken_reports) >= 1, LONG)
            await until(lambda: len(raising.told) >= 20, LONG)
            took += [await site.freshest(honest) for _ in range(ROUNDS)]
            # The machine may be busy at any moment: an eighth of the rounds may be late, and none very late.
            within = sorted(took)[len(took) - len(took) // 8 - 1]
            assert within <= allowed, f"{took}, alone {control}"
            assert max(took) <= LATE, f"{took}, alone {control}"
            # Each fault was one, and each host is well again, or told of.
            assert len(full) == 2
            assert asked
            assert unreadable.heard
            assert len(shut.heard) > 2
            assert events(said, "service.failed", service="reports")
            assert {str(each["host"]) for each in events(said, "host.failed")} == {RAISING}
            for name in (MUTE, STALE, REPORT, FULL):
                await until(workstation.follows(site.writers[name]), LONG)
            # They are asked for in parts, and what fails is asked for ever more rarely.
            await until(lambda: any("tfevents" in path for path in unreadable.heard), LONG)
            bad = [each for each in said if each["event"] in {"host.lost", "host.quarantined", "host.failed"}]
            assert not [each for each in bad if each["host"] in honest]
            assert not events(said, "service.stuck")
