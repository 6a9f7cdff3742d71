"""Shared syncs: everything is synced, each by itself and before it moves, however slow the disk is."""

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd import failpoints
from harvestd.convention.paths import LocalPath
from harvestd.errors import HaltedForSafety
from harvestd.store import syncing
from harvestd.store.publishing import Publication, Result, publish
from harvestd.store.root import DataRoot
from support.data_root import publish_one, staged, temporaries, tree, watch_syncs

FILES = 40


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataRoot]:
    """Open a fresh data root on a disk that counts as slow, so that its syncs are shared."""
    monkeypatch.setattr(syncing, "_QUICK", 0.0)
    with DataRoot.open(tmp_path) as opened:
        yield opened


def group(root: DataRoot) -> list[Publication]:
    """Stage many files, two in each directory."""
    return [Publication(staged(root, str(n).encode()), LocalPath.parse(f"exp/leaf{n // 2}/f{n}")) for n in range(FILES)]


def test_every_file_is_synced_before_any_moves(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Side by side or not: each temporary has its own sync before the first rename, each directory before the end."""
    publications = group(root)
    names = {f"/.harvestd/staging/{each.staged.name}" for each in publications}
    synced = watch_syncs(monkeypatch, root.path)
    seen: list[str] = []

    def check() -> None:
        seen.extend(synced)
        assert tree(root.path) == {}

    with failpoints.armed("publish.staged_synced", check):
        outcomes = publish(root, publications)
    assert len(seen) == FILES
    assert set(seen) == names
    directories = {"", "/exp", *(f"/exp/leaf{n}" for n in range(FILES // 2))}
    assert set(synced[FILES:]) == directories
    assert len(synced) == FILES + len(directories)
    assert {outcome.result for outcome in outcomes} == {Result.PUBLISHED}
    assert len(tree(root.path)) == FILES
    assert temporaries(root.path) == []


def test_slow_syncs_wait_side_by_side(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Several syncs are under way at once, so that the file system can commit once for all of them."""
    meeting = threading.Barrier(3)
    real = os.fsync
    calls = iter(range(FILES * 2))

    def waiting(file: int) -> None:
        # The first one goes alone. Of those after it three can meet only if none waits for another's end.
        if 0 < next(calls) <= 3:
            meeting.wait(timeout=10)
        real(file)

    monkeypatch.setattr(os, "fsync", waiting)
    publish(root, group(root))
    assert not meeting.broken


def test_one_failing_sync_of_many_publishes_nothing(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error that comes in a thread halts the whole group as any other does."""
    publications = group(root)
    bad = publications[FILES // 2].staged.name
    real = os.fsync

    def failing(file: int) -> None:
        if Path(f"/proc/self/fd/{file}").readlink().name == bad:
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(HaltedForSafety):
            publish(root, publications)
    assert tree(root.path) == {}
    assert temporaries(root.path) == []


def test_one_failing_directory_of_many_is_not_success(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A directory whose sync fails among many makes the whole call fail."""
    real = os.fsync

    def failing(file: int) -> None:
        if Path(f"/proc/self/fd/{file}").readlink().name == "leaf15":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(file)

    publications = group(root)
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", failing)
        with pytest.raises(HaltedForSafety):
            publish(root, publications)
    assert {outcome.result for outcome in publish(root, group(root))} == {Result.ADOPTED}


def test_where_writing_cannot_be_begun_syncs_do_all(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A C library without sync_file_range loses a hint, nothing else."""
    monkeypatch.setattr(syncing, "_sync_file_range", None)
    assert {outcome.result for outcome in publish(root, group(root))} == {Result.PUBLISHED}


def test_a_quick_disk_is_not_given_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where a sync costs nothing all of them run in the caller's thread."""
    monkeypatch.setattr(syncing, "_QUICK", 60.0)
    threads: set[int] = set()
    monkeypatch.setattr(os, "fsync", lambda _file: threads.add(threading.get_ident()))
    with DataRoot.open(tmp_path) as root:
        publish(root, group(root))
    assert threads == {threading.get_ident()}


def test_neighbours_are_published_though_their_directory_is_taken_away(root: DataRoot) -> None:
    """A directory that a person deletes between two files of a group is made anew for the second."""
    turns = iter(range(2))

    def take_away() -> None:
        if next(turns) == 0:
            (root.path / "exp" / "a").unlink()
            (root.path / "exp").rmdir()

    pair = [Publication(staged(root, name.encode()), LocalPath.parse(f"exp/{name}")) for name in "ab"]
    with failpoints.armed("publish.renamed", take_away):
        outcomes = publish(root, pair)
    assert [outcome.result for outcome in outcomes] == [Result.PUBLISHED, Result.PUBLISHED]
    assert tree(root.path) == {"exp/b": b"b"}


def test_a_published_temporary_is_not_removed_again(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """What moved has no name in staging any more, so nothing is unlinked there: the name may be another's by then."""
    removed: list[object] = []
    monkeypatch.setattr(os, "unlink", lambda *args, **_: removed.append(args))
    publish_one(root, "a", b"1")
    assert removed == []
