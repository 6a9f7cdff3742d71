"""Sealed publishing: what stands at the final path, and what the outcome says of it."""

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd import failpoints
from harvestd.convention.paths import LocalPath
from harvestd.errors import DiskFull, HaltedForSafety
from harvestd.store.publish import Outcome, Publication, Result, publish
from harvestd.store.root import DataRoot
from harvestd.store.versions import list_versions, read_version
from support.data_root import RENAMEAT2, names_in, publish_one, staged, temporaries, tree, watch_syncs


@pytest.fixture(params=["renameat2", "links only", "neither"])
def root(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataRoot]:
    """Open a fresh data root, on file systems that can less and less."""
    if request.param != "renameat2":
        monkeypatch.setattr(RENAMEAT2, None)
    if request.param == "neither":

        def no_links(*_: object, **__: object) -> None:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))

        monkeypatch.setattr(os, "link", no_links)
    (tmp_path / "outside").mkdir()
    with DataRoot.open(tmp_path / "data") as opened:
        yield opened


def digest(content: bytes) -> str:
    """Return the SHA-256 in hex."""
    return hashlib.sha256(content).hexdigest()


def test_a_new_file_stands_at_its_path(root: DataRoot) -> None:
    """The first publication makes the directories, the file, and an outcome with size and hash."""
    outcome = publish_one(root, "exp/training_run/config.yaml", b"steps: 1")
    assert outcome == Outcome(
        LocalPath.parse("exp/training_run/config.yaml"), Result.PUBLISHED, 8, digest(b"steps: 1"), ""
    )
    assert tree(root.path) == {"exp/training_run/config.yaml": b"steps: 1"}
    assert temporaries(root.path) == []


def test_the_same_content_is_adopted(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that a person copied here before us stays, is synced, and counts as ours."""
    (root.path / "exp").mkdir()
    (root.path / "exp" / "a").write_bytes(b"same")
    before = (root.path / "exp" / "a").stat()
    synced = watch_syncs(monkeypatch, root.path)
    assert publish_one(root, "exp/a", b"same").result == Result.ADOPTED
    assert synced[1:] == ["/exp/a", "/exp"]
    assert (root.path / "exp" / "a").stat().st_ino == before.st_ino
    assert temporaries(root.path) == []


@pytest.mark.parametrize("content", [b"mine", b"longer than ours", b""])
def test_a_persons_file_is_left_alone(root: DataRoot, content: bytes) -> None:
    """Other content that the catalogue doesn't know is a conflict, and stays as it is."""
    (root.path / "a").write_bytes(content)
    outcome = publish_one(root, "a", b"ours")
    assert outcome.result == Result.CONFLICT
    assert "did not file" in outcome.detail
    assert tree(root.path) == {"a": content}
    assert temporaries(root.path) == []


def test_a_known_version_is_replaced_and_kept(root: DataRoot) -> None:
    """The version that the catalogue names gives way to the new one and stands among the versions."""
    publish_one(root, "exp/metrics.csv", b"old")
    outcome = publish_one(root, "exp/metrics.csv", b"new!", digest(b"old"))
    assert outcome.result == Result.PUBLISHED
    assert tree(root.path) == {"exp/metrics.csv": b"new!"}
    path = LocalPath.parse("exp/metrics.csv")
    assert [read_version(root, path, kept.stamp) for kept in list_versions(root, path)] == [b"old"]
    assert temporaries(root.path) == []


def test_a_kept_version_is_synced_before_it_is_replaced(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """At no moment is the old content only in memory: its place among the versions is on disk before the rename."""
    publish_one(root, "exp/a", b"old")
    synced = watch_syncs(monkeypatch, root.path)
    seen: list[str] = []
    with failpoints.armed("publish.version_kept", lambda: seen.extend(synced)):
        publish_one(root, "exp/a", b"new", digest(b"old"))
    copies = [name for name in seen if name.startswith("/.harvestd/staging/")]
    assert len(copies) == (2 if os.link.__name__ == "no_links" else 1)
    versions = [name.removeprefix("/.harvestd/versions") for name in seen if name not in copies]
    assert versions == ["/exp/a", "", "/exp"]


def test_an_edited_file_is_left_alone(root: DataRoot) -> None:
    """A published file that a person edited since is a conflict, not the price of a newer version."""
    publish_one(root, "a", b"old")
    (root.path / "a").write_bytes(b"edited")
    outcome = publish_one(root, "a", b"new", digest(b"old"))
    assert outcome.result == Result.CONFLICT
    assert "changed since" in outcome.detail
    assert tree(root.path) == {"a": b"edited"}
    assert list_versions(root, LocalPath.parse("a")) == ()


def test_a_file_edited_in_the_last_moment_is_left_alone(root: DataRoot) -> None:
    """An edit between the comparison and the rename is noticed, and nothing of it is lost."""
    publish_one(root, "a", b"old")

    def edit() -> None:
        (root.path / "a").write_bytes(b"edited just now")

    with failpoints.armed("publish.version_kept", edit):
        assert publish_one(root, "a", b"new", digest(b"old")).result == Result.CONFLICT
    assert tree(root.path) == {"a": b"edited just now"}


def test_a_file_replaced_in_the_last_moment_is_left_alone(root: DataRoot) -> None:
    """An editor that saves by renaming, between comparison and rename, keeps its file; the old one is kept too."""

    def save() -> None:
        (root.path / "a~").write_bytes(b"saved")
        (root.path / "a~").replace(root.path / "a")

    publish_one(root, "a", b"old")
    with failpoints.armed("publish.compared", save):
        assert publish_one(root, "a", b"new", digest(b"old")).result == Result.CONFLICT
    assert tree(root.path) == {"a": b"saved"}
    path = LocalPath.parse("a")
    assert [read_version(root, path, kept.stamp) for kept in list_versions(root, path)] == [b"old"]


def test_a_deleted_file_is_published_again(root: DataRoot) -> None:
    """Where the known version is gone nothing is in the way, so the new one takes the place."""
    publish_one(root, "a", b"old")
    (root.path / "a").unlink()
    assert publish_one(root, "a", b"new", digest(b"old")).result == Result.PUBLISHED
    assert tree(root.path) == {"a": b"new"}


@pytest.mark.parametrize("replaces", [None, digest(b"secret")], ids=["first", "replacing"])
@pytest.mark.parametrize("kind", ["link", "dangling link", "directory", "fifo"])
def test_what_is_no_file_is_left_alone(root: DataRoot, kind: str, replaces: str | None) -> None:
    """A link, a directory or a FIFO at the target is a conflict; nothing is written through it."""
    secret = root.path.parent / "outside" / "secret"
    secret.write_bytes(b"secret")
    place = root.path / "a"
    match kind:
        case "link":
            place.symlink_to(secret)
        case "dangling link":
            place.symlink_to(secret.with_name("new"))
        case "directory":
            place.mkdir()
        case _:
            os.mkfifo(place)
    before = place.lstat()
    assert publish_one(root, "a", b"ours", replaces).result == Result.CONFLICT
    assert place.lstat().st_ino == before.st_ino
    assert tree(root.path.parent / "outside") == {"secret": b"secret"}
    assert temporaries(root.path) == []


@pytest.mark.parametrize("depth", [1, 2])
def test_a_linked_directory_is_never_written_through(root: DataRoot, depth: int) -> None:
    """A link in place of a directory on the way is a conflict, and nothing appears where it leads."""
    way = root.path.joinpath(*["exp"] * depth)
    way.parent.mkdir(parents=True, exist_ok=True)
    way.symlink_to(root.path.parent / "outside")
    outcome = publish_one(root, "/".join(["exp"] * depth + ["sub", "a"]), b"ours")
    assert outcome.result == Result.CONFLICT
    assert "link" in outcome.detail
    assert names_in(root.path.parent / "outside") == []


def test_a_directory_swapped_for_a_link_in_the_last_moment(root: DataRoot) -> None:
    """A directory that becomes a link after it was opened doesn't lead the file outside."""

    def swap() -> None:
        (root.path / "exp").rename(root.path / "was")
        (root.path / "exp").symlink_to(root.path.parent / "outside")

    with failpoints.armed("publish.directory_made", swap):
        publish_one(root, "exp/a", b"ours")
    assert names_in(root.path.parent / "outside") == []
    assert (root.path / "was" / "a").read_bytes() == b"ours"


def test_a_directory_deleted_in_the_last_moment(root: DataRoot) -> None:
    """A directory that a person deletes while a file is published into it makes a conflict, not a crash."""
    with failpoints.armed("publish.directory_made", (root.path / "exp").rmdir):
        assert publish_one(root, "exp/a", b"ours").result == Result.CONFLICT
    assert temporaries(root.path) == []


def test_each_of_a_group_on_its_own(root: DataRoot) -> None:
    """A conflict in a group is told and doesn't stop the files after it; the order of outcomes is the given one."""
    (root.path / "b").write_bytes(b"mine")
    group = [Publication(staged(root, name.encode()), LocalPath((name,))) for name in ("a", "b", "marker")]
    outcomes = publish(root, group)
    assert [outcome.result for outcome in outcomes] == [Result.PUBLISHED, Result.CONFLICT, Result.PUBLISHED]
    assert tree(root.path) == {"a": b"a", "b": b"mine", "marker": b"marker"}


def test_everything_is_synced_before_the_first_file_moves(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """All temporaries of a group are synced before any final path appears, every directory before the return."""
    group = [Publication(staged(root, b"x"), LocalPath.parse(f"exp/leaf/{name}")) for name in "abc"]
    synced = watch_syncs(monkeypatch, root.path)

    def check() -> None:
        assert len(synced) == 3
        assert all(name.startswith("/.harvestd/staging/") for name in synced)
        assert tree(root.path) == {}

    with failpoints.armed("publish.staged_synced", check):
        publish(root, group)
    assert synced[3:] == ["", "/exp", "/exp/leaf"]


def test_a_failed_sync_publishes_nothing(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """After EIO from a temporary's fsync no file of the group appears, and no temporary stays."""

    def fail(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    group = [Publication(staged(root, b"x"), LocalPath((name,))) for name in "ab"]
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(HaltedForSafety):
            publish(root, group)
    assert tree(root.path) == {}
    assert temporaries(root.path) == []


def test_a_failed_directory_sync_is_not_success(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """After EIO from a directory's fsync nothing is reported as published; publishing it again adopts it."""
    real = os.fsync

    def fail(file: int) -> None:
        if os.path.isdir(f"/proc/self/fd/{file}"):  # noqa: PTH112  (a descriptor's link, no path of ours)
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        real(file)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(HaltedForSafety):
            publish_one(root, "a", b"1")
    assert publish_one(root, "a", b"1").result == Result.ADOPTED


@pytest.mark.parametrize("number", [errno.ENAMETOOLONG, errno.EILSEQ, errno.EACCES])
def test_a_name_that_the_file_system_refuses(root: DataRoot, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """A file system with shorter names than Linux's refuses one file with a reason; the others are published."""
    real = os.mkdir

    def narrow(name: bytes, mode: int = 0o777, *, dir_fd: int | None = None) -> None:
        if len(name) > 100:
            raise OSError(number, os.strerror(number))
        real(name, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "mkdir", narrow)
    paths = [LocalPath(("n" * 101, "a")), LocalPath(("n", "a"))]
    outcomes = publish(root, [Publication(staged(root, b"x"), path) for path in paths])
    assert [outcome.result for outcome in outcomes] == [Result.REFUSED, Result.PUBLISHED]
    assert os.strerror(number) in outcomes[0].detail
    assert temporaries(root.path) == []


def test_a_detail_shows_hostile_names_escaped(root: DataRoot) -> None:
    """The sentence of an outcome can go to a terminal: control characters of a name are escaped in it."""
    (root.path / "evil\x1b[2J").symlink_to("elsewhere")
    outcome = publish_one(root, "evil\x1b[2J/a", b"x")
    assert outcome.result == Result.CONFLICT
    assert outcome.detail.isprintable()


def test_a_named_temporary_is_dropped_with_a_conflict(root: DataRoot) -> None:
    """What can't be published doesn't stay in staging, named or not."""
    (root.path / "a").write_bytes(b"mine")
    temporary = root.stage("large")
    assert publish(root, [Publication(temporary, LocalPath.parse("a"))])[0].result == Result.CONFLICT
    assert temporaries(root.path) == []


def test_a_named_temporary_stays_when_the_disk_fails(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A transfer of gigabytes isn't started over because there was no room for a directory."""

    def full(*_: object, **__: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    temporary = root.stage("large")
    temporary.write(b"12345")
    with monkeypatch.context() as patch:
        patch.setattr(os, "mkdir", full)
        with pytest.raises(DiskFull):
            publish(root, [Publication(temporary, LocalPath.parse("exp/a"))])
    again = root.resume("large", 5)
    assert again is not None
    assert publish(root, [Publication(again, LocalPath.parse("exp/a"))])[0].result == Result.PUBLISHED


def test_a_named_temporary_is_published_too(root: DataRoot) -> None:
    """A large transfer's temporary moves into place and its name is free again."""
    temporary = root.stage("large")
    temporary.write(b"12345")
    (outcome,) = publish(root, [Publication(temporary, LocalPath.parse("ckpt/optimizer.pt"))])
    assert outcome.result == Result.PUBLISHED
    assert root.staged_names() == ()
