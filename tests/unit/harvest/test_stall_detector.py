"""Runs that fall silent, as they are told: once, and only of those that should go on. On a clock of the tests' own."""

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
import structlog.testing
from msgspec.structs import replace

from harvestd.catalogue.open import open_catalogue
from harvestd.convention.metadata.parse import TrainingInfo
from harvestd.convention.metadata.progress import readings
from harvestd.convention.rules import Selection
from harvestd.convention.scan.classify import Surveyor
from harvestd.convention.scan.model import ScanResult
from harvestd.convention.scan.snapshot import Version
from harvestd.convention.scan.stability import StabilityTracker
from harvestd.harvest.context import Context
from harvestd.harvest.host import health
from harvestd.harvest.host.health import StallDetector
from harvestd.harvest.metrics import NullListener
from harvestd.inventory.host import Host
from harvestd.planning.records import RunRecord
from harvestd.planning.run_status import Liveness, RunProblem, RunStatus
from harvestd.settings import Settings
from support.box_trees import QWEN, ROOT, Box, T
from support.waiting import EventLog, events

pytestmark = pytest.mark.anyio

HOST = Host("static:gpu-a", "gpu-a", "127.0.0.1", "static")
BUSY = Liveness(idle_for=900.0, gpu_processes=1, hosts=frozenset({"gpu-a"}))
OTHER = "run_2025-08-20_09-00-00"


class Clock:
    """Monotonic time that goes on when a test says so."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def time(self) -> float:
        """Return the time of day, by which what is found is put on record."""
        return self.now + 1e9


class Shown:
    """A box with two runs, and what is known of who works there."""

    def __init__(self, clock: Clock) -> None:
        box = Box()
        for name in (T, OTHER):
            box.add_run(f"training_runs/{name}")
        self.clock = clock
        self.sightings = StabilityTracker()
        self.sightings.update(box.snapshot(), clock.now)
        self.seen: ScanResult | None = Surveyor().survey(box.snapshot(), Selection())
        self.known = BUSY
        self.asked = 0

    async def liveness(self) -> Liveness:
        """Count the question."""
        self.asked += 1
        return self.known


def record(name: str) -> RunRecord:
    """Return a run that goes on."""
    place = f"{ROOT}/training_runs/{name}"
    return RunRecord(name, HOST.identity, place, HOST.name, name, QWEN, Version(1, 1))


class Watched:
    """A house with two runs on one host, its clock, and what is told."""

    def __init__(self, context: Context, clock: Clock, event_log: EventLog) -> None:
        self.context, self.clock, self.event_log = context, clock, event_log
        self.shown = Shown(clock)
        self.stalling = StallDetector(HOST, context)

    def goes(self, *steps: int, name: str = T, loss: str = "0.5") -> None:
        """Let a run take these steps, one a minute."""
        for step in steps:
            self.clock.now += 60
            line = f'{{"step": {step}, "loss": {loss}, "kl": NaN}}'.encode()
            _, diverged = self.stalling.process(record(name), readings([line]), behind=0)
            if diverged is not None:
                self.stalling.log_diverged(record(name), diverged)

    def heard(self, step: int, *, loss: str = "0.5", problem: RunProblem | None = None) -> RunProblem | None:
        """Let a run that is on record with `problem` take a step; gives what is wrong with it then."""
        line = f'{{"step": {step}, "loss": {loss}}}'.encode()
        return self.stalling.process(replace(record(T), problem=problem), readings([line]), behind=0)[0]

    def problem(self) -> RunProblem | None:
        """Return what is on record of the first run."""
        known = self.context.catalogue.knowledge.run_at(HOST.identity, record(T).place)
        return known.problem if known else None

    async def silent(self, seconds: float) -> int:
        """Let time pass and look; gives how many stalled runs were told so far."""
        self.clock.now += seconds
        await self.stalling.check(self.shown)
        return len(events(self.event_log, "run.stalled"))

    async def finishes(self, name: str, final: TrainingInfo | None) -> None:
        """Record how a run ended; None: it goes on."""
        await self.context.catalogue.change_run(record(name).key, partial(replace, final=final))


@pytest.fixture
async def watched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Watched:
    """Return a house that listens to two runs, one of which has finished."""
    clock = Clock()
    monkeypatch.setattr(health, "time", clock)
    context = Context.of(Settings(), NullListener())
    context.catalogue = open_catalogue(tmp_path, "root")
    await context.catalogue.add_run(record(T))
    await context.catalogue.add_run(replace(record(OTHER), final=TrainingInfo(step=5)))
    return Watched(context, clock, [])


@pytest.fixture(autouse=True)
def event_log(watched: Watched) -> Iterator[None]:
    """Keep what is told."""
    with structlog.testing.capture_logs() as logs:
        watched.event_log = logs
        yield
    watched.context.catalogue.close()


async def test_a_run_that_falls_silent_is_told_once(watched: Watched) -> None:
    """With its step, and how long it has been silent where a minute was usual; and again once it went on."""
    watched.goes(1, 2, 3, 4, 5)
    assert await watched.silent(590) == 0
    assert watched.shown.asked == 0
    assert await watched.silent(20) == 1
    assert await watched.silent(5000) == 1
    (told,) = events(watched.event_log, "run.stalled")
    fields = {"host": "gpu-a", "run_id": T, "step": 5, "seconds": 610, "usual_seconds": 60.0}
    assert {key: told[key] for key in fields} == fields
    watched.goes(6)
    assert await watched.silent(500) == 1
    assert await watched.silent(200) == 2


@pytest.mark.parametrize(
    ("processes", "stalled", "status"),
    [(0, 0, RunStatus.DIED), (1, 1, RunStatus.STALLED), (None, 1, RunStatus.STALLED)],
    ids=["died", "hangs", "nobody can tell"],
)
async def test_a_run_that_died_has_not_stalled(
    watched: Watched, processes: int | None, stalled: int, status: RunStatus
) -> None:
    """Where no GPU process is left it will never go on; what it is stays on record, and is told once."""
    watched.goes(1, 2, 3, 4, 5)
    watched.shown.known = replace(BUSY, gpu_processes=processes)
    assert await watched.silent(700) == stalled
    fell_silent = watched.clock.time() - 700
    assert watched.problem() == RunProblem(status, fell_silent)
    assert await watched.silent(100) == stalled
    assert watched.shown.asked == 1
    assert await watched.silent(700) == stalled
    assert watched.problem() == RunProblem(status, fell_silent)
    assert len(events(watched.event_log, "run.died", run_id=T)) == 1 - stalled


async def test_a_stalled_run_whose_process_ends_has_died(watched: Watched) -> None:
    """Its host is asked again while it is silent, and not any more once it died; a line of its log takes all back."""
    watched.goes(1, 2, 3, 4, 5)
    assert await watched.silent(700) == 1
    watched.shown.known = replace(BUSY, gpu_processes=0)
    assert await watched.silent(700) == 1
    problem = watched.problem()
    assert problem is not None
    assert problem.status is RunStatus.DIED
    asked = watched.shown.asked
    await watched.silent(7000)
    assert watched.shown.asked == asked
    assert watched.heard(6) is None


async def test_a_run_that_was_dead_before_anybody_listened_is_found(watched: Watched) -> None:
    """Nothing of it moves, and no process is left: it has died, whatever its pace was."""
    await watched.finishes(OTHER, None)
    watched.shown.known = replace(BUSY, gpu_processes=0)
    await watched.silent(20)
    assert {str(each["run_id"]) for each in events(watched.event_log, "run.died")} == {T, OTHER}
    assert watched.problem() == RunProblem(RunStatus.DIED, 1e9 + 1000 - 3600)


async def test_a_run_that_diverged_stays_so_over_a_restart(watched: Watched) -> None:
    """Another process heard its loss get lost; only a finite one says that it is well."""
    problem = RunProblem(RunStatus.DIVERGED, 5.0)
    assert watched.heard(1, loss="NaN", problem=problem) == problem
    assert watched.heard(2, problem=problem) is None
    found = watched.heard(3, loss="NaN")
    assert found is not None
    assert found.status is RunStatus.DIVERGED


async def test_a_run_of_a_host_that_ends_has_not_stalled(watched: Watched) -> None:
    """It has nothing to go on with."""
    watched.goes(1, 2, 3, 4, 5)
    watched.shown.known = replace(BUSY, idle_for=0.0, ending=frozenset({"gpu-a"}))
    assert await watched.silent(700) == 0


async def test_a_finished_run_never_stalls(watched: Watched) -> None:
    """Nor does anybody keep its pace."""
    watched.goes(1, 2, 3, 4, 5)
    await watched.finishes(T, TrainingInfo(step=5))
    assert await watched.silent(5000) == 0
    assert not watched.context.step_rates


async def test_the_next_run_of_a_sweep_ends_the_one_before(watched: Watched) -> None:
    """What works on the GPUs then is the next; one beside it that began earlier proves nothing."""
    await watched.finishes(OTHER, None)
    watched.goes(1, 2, 3, 4, 5)
    watched.goes(1, 2, 3, 4, 5, name=OTHER)
    assert await watched.silent(590) == 0
    assert await watched.silent(100) == 1
    assert events(watched.event_log, "run.stalled")[0]["run_id"] == OTHER


async def test_a_time_in_which_nobody_listened_is_no_silence(watched: Watched) -> None:
    """A new connection counts from its start, and a step after it is no gap."""
    watched.goes(1, 2, 3, 4, 5)
    watched.clock.now += 50_000
    watched.stalling = StallDetector(HOST, watched.context)
    assert await watched.silent(500) == 0
    watched.goes(6)
    assert watched.context.step_rates[record(T).key].gaps == (60.0,) * 4
    assert await watched.silent(700) == 1


async def test_a_run_whose_records_were_dropped_is_found_silent(watched: Watched) -> None:
    """Records are dropped while everything of a host is here, so nothing of the log is missing then."""
    watched.goes(1, 2, 3, 4, 5)
    watched.context.catalogue.knowledge.mark_unloaded([], [HOST.identity])
    assert await watched.silent(700) == 1


async def test_a_log_that_is_still_coming_shows_no_pace(watched: Watched) -> None:
    """Its lines come as fast as they are read."""
    for step in range(1, 9):
        watched.clock.now += 0.01
        watched.stalling.process(record(T), readings([b'{"step": %d}' % step]), behind=(8 - step) * 10**6)
    assert watched.context.step_rates[record(T).key].gaps == ()


async def test_a_run_that_diverges_is_told_once(watched: Watched) -> None:
    """With the first step whose loss is no number; again only after one was."""
    watched.goes(1, 2)
    watched.goes(3, 4, loss="NaN")
    watched.goes(5)
    watched.goes(6, loss="Infinity")
    told = [(each["run_id"], each["step"], each["what"]) for each in events(watched.event_log, "run.diverged")]
    assert told == [(T, 3, "loss is nan"), (T, 6, "loss is inf")]
