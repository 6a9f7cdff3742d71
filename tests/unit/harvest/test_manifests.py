"""When a manifest is written: not while its experiment is filling, never long behind, and level at the end."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

import anyio
import pytest
import structlog.testing

from harvestd.bulkhead import Bulkhead
from harvestd.catalogue.engine import Database
from harvestd.catalogue.loading import FileLoader
from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.snapshot import Version
from harvestd.errors import Retry
from harvestd.harvest.change_feed import ChangeFeed
from harvestd.harvest.context import Context, Signals
from harvestd.harvest.experiments import manifests
from harvestd.harvest.experiments.manifests import Manifests
from harvestd.harvest.sync import DirectoryLock
from harvestd.planning.index import PlanningIndex
from harvestd.planning.records import ExperimentRecord, FileRecord
from harvestd.store.manifest import read_manifest
from harvestd.store.root import DataRoot
from support.waiting import until

pytestmark = pytest.mark.anyio

ONE = Part("x", "test")
EXPERIMENT = ExperimentRecord("e1", ExperimentName(ONE, ONE, ONE, ONE, ONE))
HOME = LocalPath((EXPERIMENT.directory,))


@dataclass
class KnownThings:
    """What the manifests ask of the catalogue."""

    knowledge: PlanningIndex = field(default_factory=PlanningIndex)

    @property
    def files(self) -> FileLoader:
        """All files are in memory."""
        return FileLoader(cast("Database", None), self.knowledge)

    @property
    def left_out(self) -> "KnownThings":
        """What is left out is asked for here too."""
        return self

    def of(self, _experiment: str) -> list[object]:
        """Nothing is left out."""
        return []


@dataclass
class OneHouse:
    """What the manifests ask of the house."""

    catalogue: KnownThings = field(default_factory=KnownThings)
    changes: ChangeFeed = field(default_factory=ChangeFeed)
    signals: Signals = field(default_factory=Signals)
    directory_lock: DirectoryLock = field(default_factory=DirectoryLock)
    service_failures: Bulkhead = field(default_factory=Bulkhead)

    def add(self, name: str) -> None:
        """Let one more file be here."""
        version, target = Version(1, 1), LocalPath((EXPERIMENT.directory, name))
        record = FileRecord("fs-1", f"/{name}", target, "gpu-a", "e1", Kind.METRICS, version, 1, "1" * 64, 1.0, "")
        self.catalogue.knowledge.add_file(record)
        self.changes.manifests.add("e1")


@pytest.fixture
def context() -> OneHouse:
    """Return a house that knows one experiment, and nothing in it yet."""
    made = OneHouse()
    made.catalogue.knowledge.add_experiment(EXPERIMENT)
    return made


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DataRoot]:
    """Open a fresh data root."""
    with DataRoot.open(tmp_path) as opened:
        yield opened


def listed(root: DataRoot) -> int:
    """Return how many files the manifest lists."""
    found = read_manifest(root, HOME)
    return len(found.files) if found else 0


async def test_what_is_behind_is_written_at_the_end(context: OneHouse, root: DataRoot) -> None:
    """Flushing brings every manifest level, however lately it was written."""
    writer = Manifests(cast("Context", context), root)
    for number in (1, 2):
        context.add(f"f{number}")
        await writer.flush()
        assert listed(root) == number
    assert context.changes.manifests == set()


async def test_a_quiet_experiment_is_written_soon_and_then_seldom(
    context: OneHouse, root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first manifest comes as soon as nothing changes any more, the next one not before its time."""
    monkeypatch.setattr(manifests, "LOOK", 0.01)
    monkeypatch.setattr(manifests, "EVERY", 1.0)
    writer = Manifests(cast("Context", context), root)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.run)
        context.add("f1")
        await until(lambda: listed(root) == 1)
        context.add("f2")
        await until(lambda: not context.changes.manifests)
        assert listed(root) == 1
        await until(lambda: listed(root) == 2)
        tasks.cancel_scope.cancel()


async def test_a_writing_that_was_cancelled_is_made_up_for_at_the_end(context: OneHouse, root: DataRoot) -> None:
    """An end that comes as a manifest is about to be written leaves it to the last flush."""
    written = Manifests(cast("Context", context), root)
    context.add("a")
    with anyio.CancelScope() as ending:
        ending.cancel()
        await written.flush()
    assert ending.cancelled_caught
    assert not (root.path / EXPERIMENT.directory / "manifest.json").exists()
    await written.flush()
    assert listed(root) == 1


async def test_a_writing_without_descriptors_is_tried_again(
    context: OneHouse, root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Trouble that passes is no error of the daemon: the manifest stays behind and is written the next time."""

    def refusing(*_: object) -> None:
        raise Retry("can't make a temporary: Too many open files")

    written = Manifests(cast("Context", context), root)
    context.add("a")
    with monkeypatch.context() as short:
        short.setattr(manifests, "write_manifest", refusing)
        await written.flush()
    assert context.changes.manifests == {"e1"}
    await written.flush()
    assert listed(root) == 1


async def test_a_manifest_that_raises_is_tried_again(
    context: OneHouse, root: DataRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An unexpected exception leaves its manifest behind the catalogue, and says so: it is written later."""

    def failing(*_: object) -> None:
        raise KeyError("a defect")

    written = Manifests(cast("Context", context), root)
    context.add("a")
    with monkeypatch.context() as short, structlog.testing.capture_logs() as event_log:
        short.setattr(manifests, "write_manifest", failing)
        await written.flush()
    assert not written.are_level
    assert context.changes.manifests == {"e1"}
    assert {one["experiment"] for one in event_log if one["event"] == "service.failed"} == {"e1"}
    await written.flush()
    assert listed(root) == 1
