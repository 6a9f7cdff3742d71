"""Boxes that do nothing, as they are told: once, with what the time cost. On a clock of the tests' own."""

from typing import cast

import pytest
import structlog.testing

from harvestd.convention.paths import RemotePath
from harvestd.convention.scan.snapshot import Entry, EntryType, Listing, Snapshot, Tree, TreeKind, TreeState, Version
from harvestd.harvest.context import Context
from harvestd.harvest.host import health
from harvestd.harvest.host.health import IdleDetector
from harvestd.harvest.metrics import NullListener
from harvestd.inventory.host import Host
from harvestd.remote.api import Box
from harvestd.settings import Settings
from support.waiting import EventLog, events

pytestmark = pytest.mark.anyio

HOST = Host("cloud:1", "gpu-a", "127.0.0.1", "cloud", cents_per_hour=2400)
MINUTE = 60.0
FILE = RemotePath(("a",))


class Watched:
    """A box whose GPUs and files do as a test says, and the clock."""

    def __init__(self) -> None:
        self.now = 1_000_000.0
        self.processes: int | None = 0
        self.asked = 0
        self.written = self.now
        self.context = Context.of(Settings(), NullListener())
        self.idling = self.connected()

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    async def gpu_processes(self) -> int | None:
        """Answer, and count it."""
        self.asked += 1
        return self.processes

    def connected(self) -> IdleDetector:
        """Begin anew, as each connection does."""
        return IdleDetector(HOST, self.context, cast("Box", self))

    async def looks(self, minutes: int, *, changed: bool = False) -> None:
        """Look once a minute; the first shows something new if so."""
        for minute in range(minutes):
            self.now += MINUTE
            await self.idling.update(self.snapshot(changed=changed and minute == 0))

    def snapshot(self, *, changed: bool) -> Snapshot:
        """Return a look at one file."""
        tree = Tree("/root", "training_runs", TreeKind.TRAINING)
        version = Version(1, int(self.written * 1e9), int(self.written * 1e9), 1)
        entries = {FILE: Entry(FILE, EntryType.FILE, version)}
        listing = Listing(tree, TreeState.PRESENT, entries=entries)
        return Snapshot((listing,), int(self.now * 1e9), changed=changed)


@pytest.fixture
def watched(monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Return a box that is watched."""
    watched = Watched()
    monkeypatch.setattr(health, "time", watched)
    return watched


async def told(watched: Watched, minutes: int, *, changed: bool = False) -> EventLog:
    """Return what is told of idle boxes meanwhile."""
    with structlog.testing.capture_logs() as event_log:
        await watched.looks(minutes, changed=changed)
    return events(event_log, "host.idle")


async def test_a_box_that_is_idle_for_hours_is_told_once(watched: Watched) -> None:
    """With what it costs; it is asked rarely, and told again only after it did something."""
    (event_log,) = await told(watched, 600, changed=True)
    assert (event_log["host"], event_log["idle_seconds"], event_log["cents_per_hour"], event_log["cost"]) == (
        "gpu-a",
        7200,
        2400,
        4800,
    )
    assert watched.asked <= 40
    assert len(await told(watched, 100, changed=True)) == 0
    assert len(await told(watched, 100)) == 1


@pytest.mark.parametrize("processes", [1, None])
async def test_what_computes_or_cannot_say_is_not_idle(watched: Watched, processes: int | None) -> None:
    """A GPU process may run for hours without writing; its end begins the time anew."""
    watched.processes = processes
    assert not await told(watched, 600, changed=True)
    watched.processes = 0
    assert not await told(watched, 100)
    assert len(await told(watched, 40)) == 1


async def test_what_moves_is_not_idle(watched: Watched) -> None:
    """And is not even asked."""
    for _ in range(60):
        assert not await told(watched, 10, changed=True)
    assert watched.asked == 0


async def test_a_new_connection_is_no_movement(watched: Watched) -> None:
    """Its first look is news, and shows by its times whether anything happened meanwhile."""
    assert not await told(watched, 100, changed=True)
    watched.idling = watched.connected()
    assert len(await told(watched, 30, changed=True)) == 1
    watched.idling = watched.connected()
    assert not await told(watched, 30, changed=True)
    watched.written = watched.now
    watched.idling = watched.connected()
    assert not await told(watched, 110, changed=True)
    assert len(await told(watched, 30)) == 1
