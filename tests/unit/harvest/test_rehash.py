"""Content checks whose files changed at home while the box hashed them."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import cast

import pytest
from msgspec.structs import replace

from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.repository import Catalogue
from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.paths import LocalPath, RemotePath
from harvestd.convention.scan.model import Source
from harvestd.convention.scan.snapshot import Tree, TreeKind, Version
from harvestd.harvest.change_feed import ChangeFeed
from harvestd.harvest.context import Context
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.sync import DirectoryLock
from harvestd.harvest.transfer import rehash
from harvestd.harvest.transfer.rehash import check_contents
from harvestd.planning.plan import Check
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord
from harvestd.remote.api import Closed, Opened, Reader, ReadRequest

pytestmark = pytest.mark.anyio

ONE = Part("x", "test")
EXPERIMENT = ExperimentRecord("e1", ExperimentName(ONE, ONE, ONE, ONE, ONE))
RUN = RunRecord("r1", "fs-1", "/data/run_1", "gpu-a", "run_1", ConfigFacts(), Version(1, 2), experiment="e1")
SOURCE = Source(Tree("/data", "training_runs", TreeKind.TRAINING), RemotePath(("run_1", "model.pt")), Version(9, 20))
FILE = FileRecord(
    storage="fs-1",
    place=SOURCE.place,
    target=LocalPath((EXPERIMENT.directory, "model.pt")),
    host="gpu-a",
    experiment="e1",
    kind=Kind.CHECKPOINT,
    version=Version(9, 10),
    size=9,
    sha256="a" * 64,
    fetched_at=1.0,
    reason="whole",
)
MOVED = replace(EXPERIMENT, moved_to="mine")


class OneCatalogue:
    """What checking asks of the house."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.directory_lock = DirectoryLock()
        self.changes = ChangeFeed()


class Hashing:
    """A box that hashes files; meanwhile something happens at home."""

    hashes_there = True

    def __init__(self, catalogue: Catalogue, meanwhile: str, sha256: str) -> None:
        self._catalogue = catalogue
        self._meanwhile = meanwhile
        self._sha256 = sha256

    @asynccontextmanager
    async def reading(self, requests: Sequence[ReadRequest]) -> AsyncIterator[AsyncIterator[Opened | Closed]]:
        """Answer the only request."""

        async def answers() -> AsyncIterator[Opened | Closed]:
            (request,) = requests
            yield Opened(request, SOURCE.version, self._sha256)
            match self._meanwhile:
                case "renamed":
                    await self._catalogue.move_experiment(MOVED)
                case "fetched anew":
                    await self._catalogue.save_files([replace(FILE, sha256="c" * 64, version=Version(9, 15))])
                case "taken away":
                    await self._catalogue.record_gone(EXPERIMENT)
                case _:
                    pass
            yield Closed(request, SOURCE.version, None)

        yield answers()


EXPECTED = {
    "nothing": [replace(FILE, version=SOURCE.version)],
    "renamed": [replace(FILE, version=SOURCE.version, target=LocalPath(("mine", "model.pt")))],
    "fetched anew": [replace(FILE, sha256="c" * 64, version=Version(9, 15))],
    "taken away": [],
}


@pytest.mark.parametrize("meanwhile", EXPECTED)
@pytest.mark.parametrize("same", [True, False])
async def test_what_changed_here_while_the_box_hashed(tmp_path: Path, meanwhile: str, *, same: bool) -> None:
    """One file has one record, at its place of now: in memory and after the next start."""
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
        await catalogue.save_files([FILE])
        reader = cast("Reader", Hashing(catalogue, meanwhile, "a" * 64 if same else "b" * 64))
        context = cast("Context", OneCatalogue(catalogue))
        await check_contents([Check(SOURCE, FILE)], reader, context, FailureTracker("gpu-a", NullListener()))
        found = catalogue.knowledge.files_of("e1")
        expected = EXPECTED[meanwhile]
        if not same and meanwhile in {"nothing", "renamed"}:
            expected = [replace(each, version=FILE.version, differs=SOURCE.version) for each in expected]
        assert found == expected
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        assert await catalogue.files.files_of("e1") == [replace(each, differs=None) for each in expected]


class HashingMany:
    """A box that hashes as many files as it is asked for, all alike; every third has another content."""

    hashes_there = True

    @asynccontextmanager
    async def reading(self, requests: Sequence[ReadRequest]) -> AsyncIterator[AsyncIterator[Opened | Closed]]:
        """Answer all requests."""

        async def answers() -> AsyncIterator[Opened | Closed]:
            for number, request in enumerate(requests):
                yield Opened(request, SOURCE.version, "b" * 64 if number % 3 == 0 else "a" * 64)
                yield Closed(request, SOURCE.version, None)

        yield answers()


@pytest.mark.parametrize("mtime", [20, 10])
async def test_hashes_are_recorded_in_batches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mtime: int) -> None:
    """A `chown -R` changes every file: there is no transaction for each, and no new manifest where it has no news."""
    monkeypatch.setattr(rehash, "AT_ONCE", 10)
    sources = [replace(SOURCE, path=RemotePath(("run_1", f"{number:03}"))) for number in range(25)]
    files = [
        replace(
            FILE, place=each.place, target=LocalPath((EXPERIMENT.directory, each.path.name)), version=Version(9, mtime)
        )
        for each in sources
    ]
    with closing(open_catalogue(tmp_path, "root-1")) as catalogue:
        await catalogue.save_discovery(EXPERIMENT, RUN)
        await catalogue.save_files(files)
        saved: list[int] = []
        save_files = catalogue.save_files

        async def save(files: Sequence[FileRecord]) -> None:
            saved.append(len(files))
            await save_files(files)

        monkeypatch.setattr(catalogue, "save_files", save)
        context = OneCatalogue(catalogue)
        checks = [Check(source, file) for source, file in zip(sources, files, strict=True)]
        await check_contents(
            checks, cast("Reader", HashingMany()), cast("Context", context), FailureTracker("gpu-a", NullListener())
        )
        assert saved == [6, 7, 3]
        found = sorted(catalogue.knowledge.files_of("e1"), key=lambda each: each.place)
        for number, (each, before) in enumerate(zip(found, files, strict=True)):
            other = replace(before, differs=SOURCE.version)
            assert each == (other if number % 3 == 0 else replace(before, version=SOURCE.version))
        assert context.changes.manifests == ({"e1"} if mtime != SOURCE.version.mtime_ns else set())
