"""A mixed fleet of real boxes behind the cloud's API, released by the daemon: the drained ones, once, and no other."""

from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode
from harvestd.remote.probe.client import ProbeBox
from harvestd.safety.inputs import Circumstances, Outside
from support.account import Account
from support.command import Ended, harvestd_command
from support.waiting import EventLog, events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

GRACE = "4s"
LONG = 60.0


@pytest.fixture(autouse=True)
def quiet_machine(monkeypatch: pytest.MonkeyPatch, root: Path) -> None:
    """Let boxes tell of nobody and nothing beside their trees: they are this machine, on which much goes on."""
    devices = {str(root): root.stat().st_dev}

    async def circumstances(_: ProbeBox, lately: timedelta) -> Circumstances:
        assert lately >= timedelta()
        return Circumstances(
            machine="f" * 32,
            hostname="box",
            gpu_processes=0,
            log_ins=0,
            transfers=0,
            devices=devices,
            outside=Outside(0, 0),
            checkouts=(),
        )

    monkeypatch.setattr(ProbeBox, "circumstances", circumstances, raising=False)


class Rented:
    """Boxes with a run each; their ids are made of their numbers."""

    def __init__(self, account: Account) -> None:
        self.account = account
        self.disks: dict[str, Path] = {}
        self.ids: dict[str, str] = {}

    def rent(self, name: str, **others: object) -> None:
        """Rent a box with an empty disk of its own."""
        number = len(self.ids) + 2
        self.ids[name] = f"{number:032x}"
        self.disks[name] = self.account.rent_with_disk(self.ids[name], name, f"127.0.0.{number}", **others)

    def run(self, name: str, day: int = 1) -> RunWriter:
        """Begin a run on a box."""
        number = list(self.ids).index(name)
        writer = RunWriter(self.disks[name], RunSpec(timestamp=f"2025-09-{day:02}_03-31-{number:02}"))
        writer.start()
        writer.log_until(2)
        return writer

    def drained(self, name: str, **others: object) -> None:
        """Rent a box with a finished run."""
        self.rent(name, **others)
        self.run(name).finish()

    def sections(self, **release: object) -> dict[str, dict[str, object]]:
        """Return the configuration; all boxes but "spared" may be released."""
        rules = {"terminate": "when-drained", "grace": GRACE, "at_most_per_hour": 9}
        only = [name for name in self.ids if name != "spared"]
        return self.account.sections() | {
            "verdict": {"idle_for": "2s"},
            "release": rules | {"only": only} | release,
        }


@pytest.fixture
def rented(account: Account) -> Rented:
    """Return an account without boxes."""
    return Rented(account)


async def _train(writer: RunWriter) -> None:
    """Let a run go on, a step at a time, until cancelled."""
    while True:
        writer.log_step(writer.last_step + 1)
        await anyio.sleep(0.2)


def _released(event_log: EventLog) -> set[str]:
    return {one["host"] for one in events(event_log, "host.released")}


@pytest.mark.slow
async def test_exactly_the_drained_boxes_go_and_once(rented: Rented, account: Account) -> None:
    """Not the one whose run goes on, nor a fresh one, nor one on which a write began during the grace period.

    Nor one that the cloud calls otherwise than it calls itself, nor a drained one that is not on the list.
    """
    for name in ("first", "second", "spared", "writes"):
        rented.drained(name)
    rented.drained("liar", hostname="elsewhere")
    for name in ("running", "fresh"):
        rented.rent(name)
    running = rented.run("running")
    async with account.workstation.running(**rented.sections()) as event_log, anyio.create_task_group() as training:
        training.start_soon(_train, running)
        await until(lambda: events(event_log, "host.drained", host="writes"), LONG)
        training.start_soon(_train, rented.run("writes", day=2))
        await until(lambda: _released(event_log) == {"first", "second"}, LONG)
        await until(lambda: events(event_log, "host.release_refused", host="liar"), LONG)
        await until(lambda: events(event_log, "host.drained", host="spared"), LONG)
        await account.answers(3)
        training.cancel_scope.cancel()
    assert sorted(account.cloud.terminated) == sorted([[rented.ids["first"]], [rented.ids["second"]]])
    assert not events(event_log, "host.drained", host="running")
    assert not events(event_log, "host.drained", host="fresh")
    assert {one["host"] for one in events(event_log, "host.release_refused")} <= {"liar", "writes"}
    (reported,) = events(event_log, "host.released", host="first")
    assert reported["cents_per_hour"] == 249
    assert not events(event_log, "host.lost_data")
    account.workstation.audit()


async def _command(account: Account, *arguments: str) -> Ended:
    config = str(account.workstation.config)
    return await anyio.to_thread.run_sync(lambda: harvestd_command("-c", config, "release", *arguments))


@pytest.mark.slow
async def test_a_person_releases_a_box_beside_the_daemon(rented: Rented, account: Account) -> None:
    """By the daemon's verdict, made anew: nobody else's box, none that is at work, and no other one with it."""
    rented.drained("first")
    rented.drained("second")
    rented.rent("fresh")
    desk = account.workstation.add_box("desk")
    assert desk.server.running
    async with account.workstation.running(**rented.sections(terminate="never")) as event_log:
        await until(lambda: events(event_log, "host.drained", host="first"), LONG)
        assert (await _command(account, "nobody", "--yes")).code == ExitCode.UNKNOWN_NAME
        assert (await _command(account, "desk", "--yes")).code == ExitCode.UNKNOWN_NAME
        unconfirmed = await _command(account, "first")
        assert (unconfirmed.code, unconfirmed.out) == (ExitCode.CONFIGURATION, "")
        fresh = await _command(account, "fresh", "--yes")
        assert fresh.code == ExitCode.NOT_SAFE
        assert "shows nothing" in fresh.out
        tried = await _command(account, "first", "--dry-run", "--json")
        assert (tried.code, tried.document["released"], tried.document["verdict"]["answer"]) == (0, False, "safe")
        assert account.cloud.terminated == []
        account.cloud.fails_to_end = "404"
        refused = await _command(account, "first", "--yes")
        assert refused.code == ExitCode.PARTIAL
        assert "the cloud refuses: status 404" in refused.out
        account.cloud.fails_to_end = None
        done = await _command(account, "first", "--yes", "--json")
        assert (done.code, done.document["released"], done.document["outcome"]) == (0, True, "released")
    assert account.cloud.terminated == [[rented.ids["first"]]] * 2
    question = "SELECT host, outcome, by_hand FROM releases ORDER BY id"
    assert account.workstation.catalogue(question) == [("first", "refused", 1), ("first", "released", 1)]


@pytest.mark.slow
async def test_without_a_daemon_nobody_knows_enough(rented: Rented, account: Account) -> None:
    """Who has not watched a box can't say that it is drained: it stays."""
    rented.drained("first")
    account.workstation.settings(**rented.sections())
    await account.workstation.once(None, **rented.sections())
    ended = await _command(account, "first", "--yes")
    assert ended.code == ExitCode.NOT_SAFE
    assert account.cloud.terminated == []


async def test_a_dry_run_ends_nothing(rented: Rented, account: Account) -> None:
    """It is said which box would have been released, once."""
    rented.drained("first")
    async with account.workstation.running(**rented.sections(terminate="dry-run", grace="0s")) as event_log:
        await until(lambda: events(event_log, "host.release_planned", host="first"), LONG)
        await account.answers(5)
    assert len(events(event_log, "host.release_planned")) == 1
    assert account.cloud.terminated == []


async def test_never_ends_nothing(rented: Rented, account: Account) -> None:
    """Which is what holds where nobody says anything."""
    rented.drained("first")
    async with account.workstation.running(**rented.sections(terminate="never", grace="0s")) as event_log:
        await until(lambda: events(event_log, "host.drained", host="first"), LONG)
        await account.answers(5)
    assert not events(event_log, "host.release_planned")
    assert account.cloud.terminated == []


async def test_no_more_an_hour_than_may_be(rented: Rented, account: Account) -> None:
    """A restart does not begin the hour anew, and a box that was released is not touched again."""
    rented.drained("first")
    rented.drained("second")
    account.cloud.ends_slowly = True
    sections = rented.sections(grace="0s", at_most_per_hour=1)
    async with account.workstation.running(**sections) as event_log:
        await until(lambda: _released(event_log), LONG)
        await until(lambda: events(event_log, "host.release_refused"), LONG)
    async with account.workstation.running(**sections) as again:
        await until(lambda: events(again, "host.release_refused"), LONG)
        await account.answers(3)
    assert len(account.cloud.terminated) == 1
    assert not _released(again)
