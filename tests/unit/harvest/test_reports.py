"""When a report is made: soon after a change, seldom while there are many, and drawing only a tenth of the time."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest
import structlog.testing
from msgspec.structs import replace

from harvestd.bulkhead import Bulkhead
from harvestd.catalogue.engine import Database
from harvestd.catalogue.loading import FileLoader
from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.snapshot import Version
from harvestd.errors import DiskFull
from harvestd.harvest.change_feed import ChangeFeed
from harvestd.harvest.context import Context
from harvestd.harvest.experiments import reports
from harvestd.harvest.experiments.reports import Reports
from harvestd.harvest.sync import DirectoryLock
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord
from harvestd.report import analysis, making
from harvestd.report.analysis import Drawn, Placed
from harvestd.report.making import Drawing, Written
from harvestd.report.readme import Marks
from harvestd.report.small_files import Evals, Known
from harvestd.store.root import DataRoot
from support.waiting import events, until

pytestmark = pytest.mark.anyio

START = 1000.0
RUN = RunRecord("r1", "fs-1", "/r1", "gpu-a", "run_2025-08-20_03-31-43", ConfigFacts(), Version(1, 1), "one")


@dataclass
class Scene:
    """A house of some experiments, a clock that a test turns, and what was made so far."""

    knowledge: PlanningIndex = field(default_factory=PlanningIndex)
    changes: ChangeFeed = field(default_factory=ChangeFeed)
    catalogue_opened: anyio.Event = field(default_factory=anyio.Event)
    directory_lock: DirectoryLock = field(default_factory=DirectoryLock)
    evals: Evals = field(default_factory=Evals)
    now: float = START
    written: list[tuple[str, float]] = field(default_factory=list)
    drawn: list[tuple[str, float]] = field(default_factory=list)
    is_full: bool = False
    looks: int = 0
    tried: list[float] = field(default_factory=list)
    service_failures: Bulkhead = field(default_factory=Bulkhead)
    broken: str = ""
    """The experiment whose report raises what nobody expects."""

    @property
    def catalogue(self) -> "Scene":
        """Play the catalogue, too."""
        return self

    @property
    def files(self) -> FileLoader:
        """All files are in memory."""
        return FileLoader(cast("Database", None), self.knowledge)

    @property
    def settings(self) -> SimpleNamespace:
        """Report that pictures are wanted."""
        return SimpleNamespace(report=SimpleNamespace(pictures=True), state=Path("/state"))

    @property
    def left_out(self) -> "Scene":
        """What is left out is asked for here too."""
        return self

    def of(self, _experiment: str) -> list[object]:
        """Nothing is left out."""
        return []

    def add(self, identifier: str, *, files: int = 1) -> None:
        """Let there be an experiment."""
        part = Part(identifier, "test")
        experiment = ExperimentRecord(identifier, ExperimentName(part, part, part, part, part))
        self.knowledge.add_experiment(experiment)
        for number in range(files):
            target = LocalPath((experiment.directory, str(number)))
            version, place = Version(1, 1), f"/{identifier}/{number}"
            record = FileRecord("fs-1", place, target, "gpu-a", identifier, Kind.METRICS, version, 1, "1" * 64, 1.0, "")
            self.knowledge.add_file(record)

    def write(self, _root: object, known: Known, _reader: object) -> Written:
        """Stand in for writing a README."""
        if self.is_full:
            raise DiskFull("full")
        if self.broken == known.experiment.id:
            self.tried.append(self.now - START)
            raise KeyError("a defect")
        self.written.append((known.experiment.id, self.now - START))
        return Written(Marks(), "other", Placed(), changed=True)

    async def draw(self, _root: object, known: Known, _placed: object, _cache: object) -> Drawing:
        """Stand in for drawing, which takes four seconds."""
        self.drawn.append((known.experiment.id, self.now - START))
        self.now += 4.0
        return Drawing("m", Drawn({}, {}))

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Callable[[float], Awaitable[None]]]:
        """Run the reports for the body; gives what turns the clock to a time and lets them look at it."""

        async def turn(to: float) -> None:
            self.now = START + to
            looks = self.looks
            # One may be under way that began before: the second after it is a whole one at this time.
            await until(lambda: self.looks > looks + 2)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_Watched(self).run)
            await turn(0)
            yield turn
            tasks.cancel_scope.cancel()


class _Watched(Reports):
    """Reports whose looks are counted."""

    def __init__(self, scene: Scene) -> None:
        super().__init__(cast("Context", scene), cast("DataRoot", None))
        self._scene = scene

    def _note(self) -> None:
        self._scene.looks += 1
        super()._note()


@pytest.fixture
def scene(monkeypatch: pytest.MonkeyPatch) -> Scene:
    """Return a scene with nothing in it."""
    made = Scene()
    made.catalogue_opened.set()
    monkeypatch.setattr(reports, "time", SimpleNamespace(monotonic=lambda: made.now))
    monkeypatch.setattr(reports, "LOOK", 0.0)
    monkeypatch.setattr(making, "write", made.write)
    monkeypatch.setattr(making, "draw", made.draw)
    monkeypatch.setattr(making, "publish_pictures", lambda *_: None)
    monkeypatch.setattr(analysis, "can_draw", lambda: False)
    return made


async def test_changes_are_taken_together(scene: Scene) -> None:
    """A report is made when its experiment is quiet, and after that not before a minute has gone by."""
    scene.add("one")
    async with scene.running() as turn:
        await turn(4)
        assert scene.written == []
        await turn(5)
        assert scene.written == [("one", 5)]
        scene.changes.reports.add("one")
        await turn(6)
        await turn(64)
        assert scene.written == [("one", 5)]
        await turn(65)
        await turn(300)
        assert scene.written == [("one", 5), ("one", 65)]


async def test_one_that_never_rests_is_made_too(scene: Scene) -> None:
    """What changes at every look is a minute behind at the most."""
    scene.add("one")
    async with scene.running() as turn:
        for second in range(0, 130, 2):
            scene.changes.reports.add("one")
            await turn(second)
    assert scene.written == [("one", 60), ("one", 122)]


async def test_an_experiment_without_files_holds_up_nothing(scene: Scene) -> None:
    """What is named and has no file yet gets no report, and one as soon as it has."""
    scene.add("one", files=0)
    async with scene.running() as turn:
        await turn(6)
        assert scene.written == []
        scene.add("one")
        scene.changes.reports.add("one")
        await turn(7)
        await turn(12)
    assert scene.written == [("one", 12)]


async def test_what_is_learned_of_a_run_is_a_change(scene: Scene) -> None:
    """A step that is learned after the log's lines were here comes into the report."""
    scene.add("one")
    scene.knowledge.add_run(RUN)
    async with scene.running() as turn:
        await turn(5)
        scene.knowledge.add_run(replace(RUN, step=8))
        await turn(65)
        await turn(70)
        await turn(300)
    assert scene.written == [("one", 5), ("one", 70)]


async def test_without_room_it_is_tried_again(scene: Scene) -> None:
    """A full disk is no end of the daemon: the report is made when there is room, after a minute."""
    scene.add("one")
    scene.is_full = True
    async with scene.running() as turn:
        await turn(5)
        scene.is_full = False
        await turn(64)
        assert scene.written == []
        await turn(70)
    assert scene.written == [("one", 70)]


async def test_drawing_takes_a_tenth_of_the_time(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Experiments are drawn one after the other, with nine times as long a rest as a drawing took."""
    monkeypatch.setattr(analysis, "can_draw", lambda: True)
    for name in ("one", "two"):
        scene.add(name)
    async with scene.running() as turn:
        await turn(5)
        assert {name for name, _ in scene.written} == {"one", "two"}
        assert [at for _, at in scene.drawn] == [5]
        await turn(44)
        assert len(scene.drawn) == 1
        await turn(45)
    assert [at for _, at in scene.drawn] == [5, 45]
    assert {name for name, _ in scene.drawn} == {"one", "two"}


async def test_a_report_that_raises_keeps_no_other_back(scene: Scene) -> None:
    """An unexpected exception costs its own report: it is told once, and made again ever more rarely."""
    scene.add("one")
    scene.add("two")
    scene.broken = "one"
    with structlog.testing.capture_logs() as event_log:
        async with scene.running() as turn:
            for second in range(0, 400, 5):
                await turn(second)
            assert scene.written == [("two", 5)]
            assert scene.tried == [5, 65, 185]
            scene.broken = ""
            await turn(430)
            assert scene.written == [("two", 5), ("one", 430)]
    (told,) = events(event_log, "service.failed", service="reports", experiment="one")
    assert isinstance(told["exc_info"], KeyError)
