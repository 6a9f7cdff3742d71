"""Releasing beside an API that really terminates: whom, when, how often, and what stands in the way."""

import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, closing
from datetime import timedelta
from pathlib import Path
from typing import cast

import anyio
import pytest
import structlog.testing
from msgspec.structs import replace

from harvestd.catalogue.entries import Decision, ReleaseOutcome
from harvestd.catalogue.hosts import Releases
from harvestd.catalogue.open import open_catalogue
from harvestd.convention.scan.model import ScanResult
from harvestd.errors import DiskFull, Retry
from harvestd.harvest.context import Context
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.release import release as automatic
from harvestd.harvest.release.release import AutoRelease
from harvestd.harvest.state import Judged, LastScan
from harvestd.inventory.host import Host
from harvestd.planning.plan import Plan
from harvestd.remote.api import Box
from harvestd.safety.inputs import Circumstances
from harvestd.safety.verdict import Reason, ReasonKind, Verdict, VerdictAnswer
from harvestd.settings import Settings
from support.cloud import Cloud
from support.planted import Planted
from support.waiting import DEADLINE, EventLog, events, until

pytestmark = pytest.mark.anyio

SAFE = Verdict(VerdictAnswer.SAFE)
BUSY = Verdict(VerdictAnswer.NOT_SAFE, (Reason(ReasonKind.RUNNING, "a run is being written"),))
MACHINE = "0123456789abcdef0123456789abcdef"


class FakeBox:
    """A connected box that says who it is."""

    def __init__(self) -> None:
        self.says = Circumstances(machine=MACHINE, hostname="198-51-100-2", gpu_processes=0, log_ins=0, transfers=0)
        self.asked = 0
        self.on_question: Callable[[], None] = lambda: None

    async def circumstances(self, lately: timedelta) -> Circumstances:
        """Return the report that was set."""
        assert lately == timedelta()
        self.asked += 1
        self.on_question()
        return self.says


class Clock:
    """The time of whoever releases, which a test sets forward."""

    def __init__(self) -> None:
        self.ahead = 0.0
        """Seconds."""
        self.suspended = 0.0
        """Seconds for which this machine slept: only the clock on the wall went on."""

    def monotonic(self) -> float:
        """Return the time since some moment."""
        return time.monotonic() + self.ahead

    def time(self) -> float:
        """Return the time of day."""
        return time.time() + self.ahead + self.suspended


class Site:
    """A fleet of rented boxes, the account behind it, and who releases them."""

    def __init__(self, cloud: Cloud, state: Path) -> None:
        self.cloud = cloud
        self.state = state
        self.clock = Clock()
        self.hosts: dict[str, Host] = {}
        self.boxes: dict[str, FakeBox] = {}
        self.full: dict[str, Verdict | Retry] = {}
        """What a last full check says, by name; else it is safe."""
        self.checked: list[str] = []
        self.on_check: Callable[[str], None] = lambda _: None
        self.context = Context.of(self.settings(), NullListener())

    def settings(self, **release: object) -> Settings:
        """Return settings with which everything may go at once, but for what `release` says."""
        rules = {"terminate": "when-drained", "only": ("gpu-0", "gpu-1"), "grace": "0s", "at_most_per_hour": 9}
        settings = Settings.model_validate(
            {
                "lambda_cloud": {"enabled": True, "base_url": self.cloud.url, "api_key": self.cloud.key},
                "release": rules | release,
            }
        )
        often = {"interval": timedelta(milliseconds=50)}
        return settings.model_copy(update={"lambda_cloud": settings.lambda_cloud.model_copy(update=often)})

    def rent(self, name: str = "gpu-0", **fields: object) -> Host:
        """Rent a box that is watched, and safe."""
        number = len(self.hosts)
        identifier = f"{number:032x}"
        self.cloud.add(identifier, name, f"198.51.100.{number}", **fields)
        host = Host(f"lambda_cloud:{identifier}", name, f"198.51.100.{number}", "lambda_cloud", cents_per_hour=3600)
        self.hosts[name] = host
        self.context.fleet.present = {**self.context.fleet.present, host.identity: host}
        self.boxes[name] = FakeBox()
        self.context.states.of(host.identity).box = cast("Box", self.boxes[name])
        self.context.states.of(host.identity).last_scan = LastScan(
            host, ScanResult((), (), ()), Plan(), frozenset(), 0.0
        )
        self.judge(name, SAFE)
        return host

    def judge(self, name: str, verdict: Verdict, still_since: float = 1_000.0) -> None:
        """Let the daemon's verdict on a host be this one from now on."""
        self.context.states.of(self.hosts[name].identity).verdict = Judged(verdict, 0.0, still_since, still_since)
        self.context.signals.scanned.ring()

    async def _judged(self, host: Host, context: Context) -> Verdict:
        assert context is self.context
        self.checked.append(host.name)
        self.on_check(host.name)
        verdict = self.full.get(host.name, SAFE)
        if isinstance(verdict, Retry):
            raise verdict
        return verdict

    @asynccontextmanager
    async def releasing(self, **release: object) -> AsyncIterator[EventLog]:
        """Release by these rules for the body, as a process that was just started does."""
        self.context.settings = self.settings(**release)
        with closing(open_catalogue(self.state, "root")) as catalogue, structlog.testing.capture_logs() as event_log:
            self.context.catalogue = catalogue
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(AutoRelease(self.context, self._judged).run)
                yield event_log
                tasks.cancel_scope.cancel()

    async def decided(self, *outcomes: ReleaseOutcome) -> None:
        """Wait until this and no more is on record, oldest first."""
        found: list[ReleaseOutcome] = []
        with anyio.move_on_after(DEADLINE):
            while found != list(outcomes):
                found = [each.outcome for each in await self.context.catalogue.releases.all()]
                await anyio.sleep(0.01)
        assert found == list(outcomes)

    async def passes_time(self, span: timedelta) -> None:
        """Let so much time pass, verdicts being heard meanwhile."""
        for _ in range(int(span.total_seconds() / 30)):
            self.clock.ahead += 30
            await self.passes(1)

    async def passes(self, rounds: int = 5) -> None:
        """Let whoever releases attend to everything several times."""
        for _ in range(rounds):
            self.context.signals.scanned.ring()
            await anyio.wait_all_tasks_blocked()


@pytest.fixture
def site(cloud: Cloud, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Site:
    """Return a site without boxes."""
    monkeypatch.setattr(automatic, "EVERY", 0.02)
    site = Site(cloud, tmp_path)
    monkeypatch.setattr(automatic, "time", site.clock)
    return site


def _ids(site: Site, *names: str) -> list[list[str]]:
    return [[site.hosts[name].identity.removeprefix("lambda_cloud:")] for name in names]


async def test_a_drained_box_is_released_once(site: Site) -> None:
    """It is checked once more, terminated by its id alone, on record and told with its cost; then left alone."""
    host = site.rent()
    async with site.releasing() as event_log:
        await until(lambda: events(event_log, "host.released"))
        await site.passes()
        await site.decided(ReleaseOutcome.RELEASED)
    assert site.cloud.terminated == _ids(site, "gpu-0")
    assert site.checked == ["gpu-0"]
    (told,) = events(event_log, "host.released", host="gpu-0", identity=host.identity)
    assert "all that is wanted is here" in told["reason"]
    assert told["cost"] > 3600
    assert not events(event_log, "host.release_refused")


async def test_it_is_not_released_again_by_the_next_process(site: Site) -> None:
    """Though the cloud is slow to end it and its verdict stays safe."""
    site.rent()
    site.cloud.ends_slowly = True
    async with site.releasing() as event_log:
        await until(lambda: events(event_log, "host.released"))
    async with site.releasing() as event_log:
        await site.passes()
    assert site.cloud.terminated == _ids(site, "gpu-0")
    assert not event_log


@pytest.mark.parametrize(
    "rules", [{"terminate": "never"}, {"only": ()}, {"only": ("gpu-1",)}, {"grace": "1h"}], ids=str
)
async def test_without_leave_nobody_is_even_looked_at(site: Site, rules: dict[str, object]) -> None:
    """Never, no list, another host's list, or a grace period that is not over: no check, no request, no word."""
    site.rent()
    async with site.releasing(**rules) as event_log:
        await site.passes()
    assert (site.checked, site.cloud.terminated, event_log) == ([], [], [])


async def test_a_dry_run_says_what_would_be_done(site: Site) -> None:
    """Once, after all checks; the cloud is asked for its list and for nothing else."""
    site.rent()
    async with site.releasing(terminate="dry-run") as event_log:
        await until(lambda: events(event_log, "host.release_planned", host="gpu-0"))
        await site.passes()
        await site.decided(ReleaseOutcome.PLANNED)
    assert len(events(event_log, "host.release_planned")) == 1
    assert site.checked == ["gpu-0"]
    assert site.cloud.served["good"] == 1
    assert site.cloud.terminated == []


async def test_what_moves_during_the_grace_period_begins_it_anew(site: Site) -> None:
    """Neither a verdict that was not safe for a moment nor one that became safe again unseen is the one that began."""
    site.rent()
    async with site.releasing(grace="10m") as event_log:
        await until(lambda: site.boxes["gpu-0"].asked)
        for turn in range(6):
            await site.passes_time(timedelta(minutes=5))
            if turn % 2:
                site.judge("gpu-0", SAFE, 1_000.0 + 10 * turn)
            else:
                site.judge("gpu-0", BUSY)
                await site.passes(2)
                site.judge("gpu-0", SAFE, 1_000.0 + 10 * turn)
            await until(lambda turn=turn: site.boxes["gpu-0"].asked == 2 + turn)  # type: ignore[misc]  # bound
        assert site.checked == []
        await site.passes_time(timedelta(minutes=11))
        await until(lambda: events(event_log, "host.released"))
    assert site.cloud.terminated == _ids(site, "gpu-0")


async def test_a_verdict_that_nobody_heard_of_for_long_begins_anew(site: Site) -> None:
    """A process that was held up for as long as the grace period has watched nothing meanwhile."""
    site.rent()
    async with site.releasing(grace="10m"):
        await until(lambda: site.boxes["gpu-0"].asked)
        site.clock.ahead += 700
        await until(lambda: site.boxes["gpu-0"].asked == 2)
        await site.passes()
    assert site.checked == []


@pytest.mark.parametrize(
    ("what", "why"),
    [
        ("the full check says no", "a last full check found that a run is being written"),
        ("the full check fails", "the link is lost"),
        ("another machine answers", "another machine answers"),
        ("it moved to another address", "names another address"),
        ("the cloud calls it otherwise", "the cloud calls it elsewhere"),
        ("it is not active", "unhealthy, not active"),
        ("it may not be terminated", "can't be terminated now"),
        ("the cloud names it no more", "names no such instance"),
        ("the cloud does not answer", "status 500"),
        ("it was read elsewhere", "not read at the address"),
        ("it is not connected any more", "not connected"),
        ("something moved meanwhile", "something moved"),
        ("the operator changed their mind", "something moved"),
        ("the inventory changed meanwhile", "tells of it differently"),
    ],
)
async def test_what_stands_in_the_way_is_told_once(site: Site, planted: Planted, what: str, why: str) -> None:
    """Each makes the last check fail, again and again; nothing is terminated, and it is one event."""
    host, (entry,) = site.rent(), site.cloud.instances
    context, box = site.context, site.boxes["gpu-0"]

    def interfere(_: str) -> None:
        match what:
            case "another machine answers":
                box.says = replace(box.says, machine=f"{len(site.checked):032x}")
            case "it was read elsewhere":
                last_scan = context.states.of(host.identity).last_scan
                assert last_scan is not None
                elsewhere = replace(last_scan, host=replace(host, address="198.51.100.99"))
                context.states.of(host.identity).last_scan = elsewhere
            case "it is not connected any more":
                context.states.of(host.identity).box = None
            case "something moved meanwhile":
                site.judge("gpu-0", SAFE, 1_000.0 + 10 * len(site.checked))
            case "the operator changed their mind":
                context.settings = site.settings(only=())
            case "the inventory changed meanwhile":
                context.fleet.present = {host.identity: replace(host, region=f"other-{len(site.checked)}")}

    site.on_check = interfere
    full: dict[str, Verdict | Retry] = {
        "the full check says no": BUSY,
        "the full check fails": Retry("the link is lost"),
    }
    site.full = {"gpu-0": full.get(what, SAFE)}
    answers: dict[str, dict[str, object]] = {
        "it moved to another address": {"ip": "198.51.100.77"},
        "the cloud calls it otherwise": {"hostname": "elsewhere"},
        "it is not active": {"status": "unhealthy"},
        "it may not be terminated": {"actions": {"terminate": {"available": False}}},
    }
    entry |= answers.get(what, {})
    if what == "the cloud names it no more":
        site.cloud.instances = []
    site.cloud.fails = "500" if what == "the cloud does not answer" else None
    async with site.releasing() as event_log:
        await until(lambda: events(event_log, "host.release_refused"))
        await site.passes()
        await site.decided(ReleaseOutcome.REFUSED)
    assert site.cloud.terminated == []
    (told,) = events(event_log, "host.release_refused", host="gpu-0")
    assert why in told["reason"]
    planted.hear("events", str(event_log))
    assert planted.leaks({}) == []


async def test_who_turns_to_a_dry_run_during_the_last_check_gets_one(site: Site) -> None:
    """What counts is what the operator says when it is done."""
    site.rent()

    def reload(_: str) -> None:
        site.context.settings = site.settings(terminate="dry-run")

    site.on_check = reload
    async with site.releasing() as event_log:
        await until(lambda: events(event_log, "host.release_planned"))
    assert site.cloud.terminated == []


async def test_what_can_not_be_recorded_is_not_asked(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk nothing is terminated, and nothing else ends; when there is room it goes on."""
    site.rent()
    keep, full = Releases.keep, [True]

    async def keep_where_there_is_room(releases: Releases, decision: Decision) -> Decision:
        if full:
            raise DiskFull("no room")
        return await keep(releases, decision)

    monkeypatch.setattr(Releases, "keep", keep_where_there_is_room)
    async with site.releasing() as event_log:
        await until(lambda: events(event_log, "host.release_refused", reason="there is no room to record it"))
        assert site.cloud.terminated == []
        full.clear()
        await until(lambda: events(event_log, "host.released"))


async def test_what_was_done_and_can_not_be_recorded_is_done_once(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stays on record as asked, and the next process learns from the list that it is over."""
    site.rent()

    async def settle(_: Releases, __: Decision) -> None:
        raise DiskFull("no room")

    with monkeypatch.context() as patched:
        patched.setattr(Releases, "settle", settle)
        async with site.releasing() as event_log:
            await until(lambda: events(event_log, "host.released"))
            await site.passes()
            await site.decided(ReleaseOutcome.ASKED)
    async with site.releasing() as event_log:
        await until(lambda: events(event_log, "host.released"))
        await site.decided(ReleaseOutcome.RELEASED)
    assert site.cloud.terminated == _ids(site, "gpu-0")


@pytest.mark.parametrize(
    ("company", "why"),
    [
        ({"log_ins": 1}, "1 people logged in"),
        ({"gpu_processes": None}, "can't say whether"),
        ({"transfers": 2}, "2 prog"),
    ],
)
async def test_who_comes_during_the_last_check_is_seen(site: Site, company: dict[str, int | None], why: str) -> None:
    """A full check asks who works there before it looks at everything; it is asked once more when that is over."""
    site.rent()
    box = site.boxes["gpu-0"]
    alone = box.says

    def come(_: str) -> None:
        box.says = replace(alone, **company)

    site.on_check = come
    async with site.releasing() as event_log:
        await until(lambda: events(event_log, "host.release_refused") or site.cloud.terminated)
    assert site.cloud.terminated == []
    assert why in events(event_log, "host.release_refused")[0]["reason"]


async def test_a_last_check_does_not_outlive_a_suspended_workstation(site: Site) -> None:
    """Who closes the lid after it, and opens it in the morning, has no box ended by what was seen in the evening."""
    site.rent()

    def close_the_lid() -> None:
        if site.checked:
            site.clock.suspended += 8 * 3_600

    site.boxes["gpu-0"].on_question = close_the_lid
    async with site.releasing() as event_log:
        await until(lambda: events(event_log, "host.release_refused") or site.cloud.terminated)
    assert site.cloud.terminated == []
    assert "too old" in events(event_log, "host.release_refused")[0]["reason"]


async def test_a_box_that_does_not_say_who_it_is_stays(site: Site) -> None:
    """Without a machine id nothing proves that the same one answers."""
    site.rent()
    site.boxes["gpu-0"].says = Circumstances(hostname="198-51-100-2")
    async with site.releasing() as event_log:
        await until(lambda: events(event_log, "host.release_refused"))
    assert site.cloud.terminated == []


async def test_no_more_an_hour_than_may_be_over_a_restart(site: Site) -> None:
    """The second one waits, in the next process as well, and both are told once that they wait."""
    site.rent("gpu-0")
    site.rent("gpu-1")
    async with site.releasing(at_most_per_hour=1) as event_log:
        await until(lambda: events(event_log, "host.released"))
        await until(lambda: events(event_log, "host.release_refused", host="gpu-1"))
        await site.passes()
    assert len(events(event_log, "host.release_refused")) == 1
    async with site.releasing(at_most_per_hour=1) as event_log:
        await until(lambda: events(event_log, "host.release_refused", host="gpu-1"))
        await site.passes()
    assert site.cloud.terminated == _ids(site, "gpu-0")
    site.clock.ahead += 3_601
    async with site.releasing(at_most_per_hour=1) as event_log:
        await until(lambda: events(event_log, "host.released", host="gpu-1"))
    assert site.cloud.terminated == _ids(site, "gpu-0", "gpu-1")


async def test_what_the_cloud_refuses_is_tried_again(site: Site) -> None:
    """A busy cloud is left alone for as long as it asks; nothing that it refused counts against the rate."""
    site.rent()
    site.cloud.fails_to_end = "429"
    async with site.releasing(at_most_per_hour=1) as event_log:
        await until(lambda: len(site.cloud.terminated) > 1)
        site.cloud.fails_to_end = None
        await until(lambda: events(event_log, "host.released"))
    assert len(events(event_log, "host.release_refused")) == 1


async def test_a_busy_cloud_is_not_asked_before_its_time(site: Site) -> None:
    """Retry-After holds whatever the grace period is."""
    site.rent()
    site.cloud.fails_to_end, site.cloud.retry_after = "429", "3000"
    async with site.releasing() as event_log:
        await until(lambda: events(event_log, "host.release_refused"))
        await site.passes()
    assert len(site.cloud.terminated) == 1


@pytest.mark.parametrize("failure", ["500 after it was done", "no answer after it was done"])
async def test_what_was_done_without_a_clear_answer_is_found_out(site: Site, failure: str) -> None:
    """The list says that it ends: it was released, and is not asked for again; it counts against the rate."""
    site.rent("gpu-0")
    site.rent("gpu-1")
    site.cloud.fails_to_end = failure
    async with site.releasing(at_most_per_hour=1) as event_log:
        await until(lambda: events(event_log, "host.released", host="gpu-0"))
        await until(lambda: events(event_log, "host.release_refused", host="gpu-1"))
        await site.passes()
        await site.decided(ReleaseOutcome.RELEASED, ReleaseOutcome.REFUSED)
    assert site.cloud.terminated == _ids(site, "gpu-0")


async def test_what_was_not_done_is_tried_again_within_the_rate(site: Site) -> None:
    """A cloud that stumbles is asked again once its list says that the box is active, and each time counts."""
    site.rent()
    site.cloud.fails_to_end = "500"
    async with site.releasing(at_most_per_hour=2) as event_log:
        full = "2 were released within the last hour, and no more may be"
        await until(lambda: events(event_log, "host.release_refused", reason=full))
        await site.passes()
    assert len(site.cloud.terminated) == 2
    assert not events(event_log, "host.released")


async def test_a_process_that_died_over_its_question_leaves_it_on_record(site: Site) -> None:
    """The next one learns from the list that the box is gone, by several answers, and asks for nothing."""
    site.rent()
    site.cloud.fails_to_end = "no answer after it was done"
    site.cloud.ends_slowly = True
    async with site.releasing(at_most_per_hour=1) as event_log:
        await until(lambda: events(event_log, "host.release_refused"))
        await site.decided(ReleaseOutcome.UNCLEAR, ReleaseOutcome.REFUSED)
    gone = site.hosts["gpu-0"]
    site.cloud.instances, site.context.fleet.present = [], {}
    async with site.releasing(at_most_per_hour=1) as event_log:
        await until(lambda: events(event_log, "host.released", identity=gone.identity))
        assert site.cloud.served["good"] >= 3
    assert len(site.cloud.terminated) == 1


async def test_a_defect_at_one_box_keeps_no_other_from_being_released(site: Site) -> None:
    """An unexpected exception counts against its own box: it stays, and the next one is released."""
    site.rent("gpu-0")
    site.rent("gpu-1")

    def fail(name: str) -> None:
        if name == "gpu-0":
            raise KeyError(name)

    site.on_check = fail
    async with site.releasing() as event_log:
        await until(lambda: events(event_log, "host.released", host="gpu-1"))
        await until(lambda: events(event_log, "host.release_refused", host="gpu-0"))
        (failed,) = events(event_log, "host.failed", host="gpu-0")
        assert isinstance(failed["exc_info"], KeyError)
        await site.passes()
        assert site.checked.count("gpu-0") == 1
    assert site.cloud.terminated == _ids(site, "gpu-1")
