"""Files that are moved within the data root, by a process that ends in between: each has one record, where it is."""

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import replace

from harvestd import failpoints
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.repository import Catalogue
from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.snapshot import Version
from harvestd.errors import DiskFull
from harvestd.harvest.experiments.rename import Refiling, refile
from harvestd.harvest.recovery import recover
from harvestd.planning.records import ExperimentRecord, FileRecord, RunRecord
from harvestd.store import walking
from harvestd.store.publish import Result
from harvestd.store.root import DataRoot
from support.data_root import publish_one, tree

pytestmark = pytest.mark.anyio

ONE = Part("x", "test")
EXPERIMENT = ExperimentRecord("e1", ExperimentName(ONE, ONE, ONE, ONE, ONE))
RUN = RunRecord("r1", "fs-1", "/data/run_1", "gpu-a", "run_1", ConfigFacts(), Version(1, 2), experiment="e1")
NAMES = ("a", "b", "c")


class Died(BaseException):
    """The process ends here."""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DataRoot]:
    """Open a data root in which evals wait."""
    with DataRoot.open(tmp_path / "data") as opened:
        for name in NAMES:
            publish_one(opened, f"_unfiled/gpu-a/{name}", name.encode())
        yield opened


def waiting(name: str) -> FileRecord:
    """Return the record of a file that waits."""
    return FileRecord(
        storage="fs-1",
        place=f"/data/{name}",
        target=LocalPath(("_unfiled", "gpu-a", name)),
        host="gpu-a",
        experiment=None,
        kind=Kind.METRICS,
        version=Version(1, 1),
        size=1,
        sha256=hashlib.sha256(name.encode()).hexdigest(),
        fetched_at=1.0,
        reason="whole",
    )


def filed(name: str) -> FileRecord:
    """Return its record once it is filed."""
    return replace(waiting(name), target=LocalPath((EXPERIMENT.directory, "eval_results", name)), experiment="e1")


FILES = [Refiling(waiting(name), filed(name)) for name in NAMES]


async def opened(state: Path, root: DataRoot) -> Catalogue:
    """Open the catalogue, with the files that wait on record."""
    catalogue = open_catalogue(state, root.id)
    if not catalogue.knowledge.runs():
        await catalogue.save_discovery(EXPERIMENT, RUN)
        await catalogue.save_files([each.before for each in FILES])
    return catalogue


async def on_record(catalogue: Catalogue) -> set[str]:
    """Return where files are on record."""
    files = [*await catalogue.files.files_of(None), *await catalogue.files.files_of("e1")]
    assert len(files) == len(NAMES)
    return {str(file.target) for file in files}


async def test_files_that_moved_are_on_record_where_they_are(root: DataRoot, tmp_path: Path) -> None:
    """All of them in one transaction; what stands in one's way keeps it where it was."""
    publish_one(root, str(FILES[1].after.target), b"a person's own")
    with closing(await opened(tmp_path, root)) as catalogue:
        assert await refile(catalogue, root, FILES) == [Result.PUBLISHED, Result.CONFLICT, Result.PUBLISHED]
        assert await catalogue.intents() == []
        assert await on_record(catalogue) == set(tree(root.path)) - {str(FILES[1].after.target)}
        assert await refile(catalogue, root, []) == []


@pytest.mark.parametrize("means", ["renameat2", "links only"])
@pytest.mark.parametrize(
    "point", ["refile.intended", "rename.linked", "move.renamed", "move.synced", "catalogue.changed"]
)
async def test_a_process_that_ends_in_between(
    root: DataRoot, tmp_path: Path, point: str, means: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next start finds each file at one of both places, by its hash, and the rest is moved then."""
    if means == "links only":
        monkeypatch.setattr(walking, "renameat2", None)
    reached: list[str] = []

    def die() -> None:
        # The second one: of the files, or of the transactions, of which the first writes the intent.
        reached.append(point)
        if len(reached) == 2 or point == "refile.intended":
            raise Died

    with closing(await opened(tmp_path, root)) as catalogue:
        if (point, means) == ("rename.linked", "renameat2"):
            assert len(await refile(catalogue, root, FILES)) == 3
        else:
            with failpoints.armed(point, die), pytest.raises(Died):
                await refile(catalogue, root, FILES)
    with closing(await opened(tmp_path, root)) as catalogue:
        await recover(catalogue, root)
        assert await catalogue.intents() == []
        assert await on_record(catalogue) <= set(tree(root.path))
        left = [each for each in FILES if await catalogue.files.holder(each.before.target) is not None]
        await refile(catalogue, root, left)
        assert await on_record(catalogue) == set(tree(root.path)) == {str(each.after.target) for each in FILES}


async def test_a_disk_that_fails_half_way(root: DataRoot, tmp_path: Path) -> None:
    """What was moved until then is on record at once: the process goes on."""
    moved: list[bool] = []

    def fail() -> None:
        moved.append(True)
        if len(moved) == 2:
            raise DiskFull("no room")

    with closing(await opened(tmp_path, root)) as catalogue:
        with failpoints.armed("move.renamed", fail), pytest.raises(DiskFull):
            await refile(catalogue, root, FILES)
        assert await catalogue.intents() == []
        assert await on_record(catalogue) == set(tree(root.path))
