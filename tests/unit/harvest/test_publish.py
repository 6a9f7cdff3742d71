"""Publishing for a host when the disk fails: what moved is recorded all the same, and no intent is left behind."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import cast

import anyio.to_thread
import pytest

from harvestd import failpoints
from harvestd.catalogue.entries import Intent
from harvestd.catalogue.open import open_catalogue
from harvestd.catalogue.repository import Catalogue
from harvestd.convention.kinds import Kind
from harvestd.convention.paths import LocalPath, RemotePath
from harvestd.convention.scan.model import Source
from harvestd.convention.scan.snapshot import Tree, TreeKind, Version
from harvestd.errors import HaltedForSafety
from harvestd.harvest.change_feed import ChangeFeed
from harvestd.harvest.context import Context
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.recovery import recover
from harvestd.harvest.sync import DirectoryLock
from harvestd.harvest.transfer.publish import Publisher, Refusals, StagedFile, StagedGroup
from harvestd.inventory.host import Host
from harvestd.planning.plan import FetchFile, FetchGroup, Target
from harvestd.store.root import DataRoot
from support.data_root import staged, tree

pytestmark = pytest.mark.anyio

TREE = Tree("/data", "eval_runs", TreeKind.EVAL)


class OneCatalogue:
    """What a publisher asks of the house."""

    def __init__(self, catalogue: Catalogue) -> None:
        self.catalogue = catalogue
        self.monitor = NullListener()
        self.directory_lock = DirectoryLock()
        self.changes = ChangeFeed()
        self.unsettled_intents: list[Intent] = []

    async def check_directories(self) -> None:
        """Nobody moves anything here."""

    def storage_of(self, host: Host) -> str:
        """Return the host's identity."""
        return host.identity


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DataRoot]:
    """Open a fresh data root."""
    with DataRoot.open(tmp_path / "data") as opened:
        yield opened


def group(root: DataRoot, *names: str) -> StagedGroup:
    """Stage a group of files that hold their own names."""
    files = []
    for name in names:
        source = Source(TREE, RemotePath(("leaf", name)), Version(len(name), 1))
        file = FetchFile(source, Kind.METRICS, (Target(LocalPath(("_unfiled", "leaf", name)), None),), "whole")
        files.append(StagedFile(file, (staged(root, name.encode()),)))
    return StagedGroup(FetchGroup("/data/leaf", tuple(each.file for each in files)), tuple(files), 0.0)


def publisher_of(catalogue: Catalogue, root: DataRoot) -> Publisher:
    """Make the publisher of a host."""
    host = Host(name="gpu-a", identity="static:gpu-a", address="127.0.0.1", source="static")
    return Publisher(host, cast("Context", OneCatalogue(catalogue)), root, Refusals())


def on_record(catalogue: Catalogue) -> dict[str, str]:
    """Return what the catalogue says is here: hashes by path."""
    return {str(file.target): file.sha256 for file in catalogue.knowledge.files_of(None)}


def hashes(root: DataRoot) -> dict[str, str]:
    """Return what is here: hashes by path."""
    return {path: hashlib.sha256(cast("bytes", content)).hexdigest() for path, content in tree(root.path).items()}


async def test_what_was_published_is_recorded(root: DataRoot, tmp_path: Path) -> None:
    """After a publication the catalogue holds what stands there, and no intent."""
    with closing(await anyio.to_thread.run_sync(open_catalogue, tmp_path, root.id)) as catalogue:
        await publisher_of(catalogue, root).publish([group(root, "a", "b"), group(root, "c")])
        assert on_record(catalogue) == hashes(root)
        assert len(hashes(root)) == 3
        assert await catalogue.intents() == []


async def test_what_moved_before_the_disk_failed_is_recorded_with_the_next(root: DataRoot, tmp_path: Path) -> None:
    """Files at their places whose directories could not be synced are looked at before anything else is published."""
    with closing(await anyio.to_thread.run_sync(open_catalogue, tmp_path, root.id)) as catalogue:
        publisher = publisher_of(catalogue, root)

        def fail() -> None:
            raise HaltedForSafety("the disk failed")

        for names in (("a", "b"), ("c",)):
            with failpoints.armed("publish.renamed_all", fail), pytest.raises(HaltedForSafety):
                await publisher.publish([group(root, *names)])
        assert len(await catalogue.intents()) == 1
        assert set(on_record(catalogue)) == {"_unfiled/leaf/a", "_unfiled/leaf/b"}
        await publisher.publish([group(root, "d")])
        assert on_record(catalogue) == hashes(root)
        assert len(hashes(root)) == 4
        assert await catalogue.intents() == []


async def test_what_moved_before_a_defect_is_recorded_by_the_next_connection(root: DataRoot, tmp_path: Path) -> None:
    """After an unexpected exception the connection is made anew: what is at its place is recorded then."""
    with closing(await anyio.to_thread.run_sync(open_catalogue, tmp_path, root.id)) as catalogue:
        context = OneCatalogue(catalogue)
        host = Host(name="gpu-a", identity="static:gpu-a", address="127.0.0.1", source="static")

        def fail() -> None:
            raise KeyError("a defect")

        with failpoints.armed("publish.renamed_all", fail), pytest.raises(KeyError):
            await Publisher(host, cast("Context", context), root, Refusals()).publish([group(root, "a", "b")])
        assert on_record(catalogue) == {}
        assert len(await catalogue.intents()) == 1
        await Publisher(host, cast("Context", context), root, Refusals()).publish([group(root, "c")])
        assert on_record(catalogue) == hashes(root)
        assert len(hashes(root)) == 3
        assert await catalogue.intents() == []


async def test_a_restart_settles_what_stands_and_syncs_it(
    root: DataRoot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was about to be published and stands is recorded, once it is on disk; what does not stand is forgotten."""
    with closing(await anyio.to_thread.run_sync(open_catalogue, tmp_path, root.id)) as catalogue:
        publisher = publisher_of(catalogue, root)
        pending = group(root, "a", "b")
        _, records = publisher._prepared([pending])
        await catalogue.intend(records)
        for each in pending.files:
            each.copies[0].close()
        (root.path / "_unfiled" / "leaf").mkdir(parents=True)
        (root.path / "_unfiled" / "leaf" / "a").write_bytes(b"a")
        synced: list[bool] = []
        real = os.fsync

        def watched(file: int) -> None:
            synced.append("_unfiled/leaf/a" in on_record(catalogue))
            real(file)

        with monkeypatch.context() as patch:
            patch.setattr(os, "fsync", watched)
            await recover(catalogue, root)
        assert synced == [False] * 4
        assert on_record(catalogue) == hashes(root)
        assert await catalogue.intents() == []
