"""A disk that is full or fails: nothing half-written stays, and work goes on when there is room.

The small real disk needs root, which may mount a tmpfs; without, the same calls are made to fail one by one.
"""

import errno
import hashlib
import os
import subprocess
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path

import pytest

from harvestd.convention.paths import LocalPath
from harvestd.errors import DiskFull, HaltedForSafety, HarvestError, Retry
from harvestd.store.errors import Conflict, Refused, translating
from harvestd.store.growing import GrowingFile
from harvestd.store.publish import Publication, Result, publish
from harvestd.store.remove import write_own
from harvestd.store.root import DataRoot
from support.data_root import publish_one, staged, temporaries, tree

needs_mount = pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a small disk")


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """Provide a directory on a file system of 256 KiB."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=256k,nr_inodes=40", "tmpfs", tmp_path], check=True)
    try:
        yield tmp_path
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


@needs_mount
def test_a_full_disk_pauses_and_goes_on(small: Path) -> None:
    """A write beyond the room is DiskFull, leaves no temporary, and succeeds once there is room."""
    with DataRoot.open(small / "data") as root:
        ballast = small / "ballast"
        ballast.write_bytes(bytes(200 << 10))
        with pytest.raises(DiskFull), root.stage() as temporary:
            temporary.write(bytes(100 << 10))
        assert temporaries(root.path) == []
        assert root.free_bytes() < 56 << 10
        ballast.unlink()
        assert publish_one(root, "a", bytes(100 << 10)).result == Result.PUBLISHED


@needs_mount
def test_a_named_temporary_knows_what_was_written(small: Path) -> None:
    """After DiskFull, size and hash are those of the bytes on disk, so that the transfer goes on from there."""
    content = os.urandom(300 << 10)
    with DataRoot.open(small / "data") as root:
        with root.stage("part") as temporary:
            with pytest.raises(DiskFull):
                temporary.write(content)
            assert 0 < temporary.size < len(content)
            assert temporary.hexdigest == hashlib.sha256(content[: temporary.size]).hexdigest()
        again = root.resume("part", temporary.size)
        assert again is not None
        with again:
            assert again.hexdigest == temporary.hexdigest


@needs_mount
def test_a_growing_file_on_a_full_disk_keeps_whole_lines(small: Path) -> None:
    """An append without room leaves the file as it was, and goes on when there is room."""
    path = LocalPath.parse("log")
    with DataRoot.open(small / "data") as root, GrowingFile.create(root, path) as growing:
        growing.append(b"one\n")
        ballast = small / "ballast"
        ballast.write_bytes(bytes(200 << 10))
        with pytest.raises(DiskFull):
            growing.append(b"x" * (100 << 10))
        assert (root.path / "log").read_bytes() == b"one\n"
        ballast.unlink()
        growing.append(b"two\n")
        assert (root.path / "log").read_bytes() == b"one\ntwo\n"


@needs_mount
def test_no_inodes_is_a_full_disk(small: Path) -> None:
    """A disk without room for one more directory is full, even if bytes are free."""
    with DataRoot.open(small / "data") as root:
        with pytest.raises(DiskFull):
            publish_one(root, "/".join(f"d{number}" for number in range(50)), b"1")
        assert temporaries(root.path) == []


@needs_mount
def test_another_file_system_below_the_root_is_refused(small: Path) -> None:
    """A file can't move onto a disk that is mounted below the root: it is refused with the reason."""
    with DataRoot.open(small.parent / "outer") as root:
        (root.path / "mounted").mkdir()
        subprocess.run(["mount", "--bind", small, root.path / "mounted"], check=True)
        try:
            outcome = publish_one(root, "mounted/a", b"1")
        finally:
            subprocess.run(["umount", "--lazy", root.path / "mounted"], check=True)
        assert outcome.result == Result.REFUSED
        assert outcome.detail


@pytest.mark.parametrize(
    ("number", "expected"),
    [
        (errno.ENOSPC, DiskFull),
        (errno.EDQUOT, DiskFull),
        (errno.EIO, HaltedForSafety),
        (errno.EROFS, HaltedForSafety),
        (errno.ESTALE, HaltedForSafety),
        (errno.ENAMETOOLONG, Refused),
        (errno.EXDEV, Refused),
        (errno.ELOOP, Conflict),
        (errno.ENOTDIR, Conflict),
        (errno.EMFILE, Retry),
        (errno.ENFILE, Retry),
        (errno.ENOENT, FileNotFoundError),
        (errno.EBADF, OSError),
    ],
)
def test_each_error_is_one_decision(number: int, expected: type[Exception]) -> None:
    """What the kernel answers becomes the class that says what to do; absence and bugs stay as they are."""
    with pytest.raises(expected) as raised, translating("trying"):
        raise OSError(number, os.strerror(number))
    assert type(raised.value) is expected
    assert not isinstance(raised.value, HarvestError) or str(raised.value).startswith("trying: ")


def fail_nth(monkeypatch: pytest.MonkeyPatch, nth: int, number: int) -> Callable[[], bool]:
    """Let the n-th call that writes fail once; gives a function that tells whether it did."""
    calls = count(1)
    fired = False

    def failing(real: Callable[..., object]) -> Callable[..., object]:
        def call(*args: object, **kwargs: object) -> object:
            nonlocal fired
            if next(calls) == nth:
                fired = True
                raise OSError(number, os.strerror(number))
            return real(*args, **kwargs)

        return call

    for name in ("open", "mkdir", "pwrite", "fsync", "fdatasync", "rename", "link", "ftruncate"):
        monkeypatch.setattr(os, name, failing(getattr(os, name)))
    return lambda: fired


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EMFILE])
def test_any_failing_call_leaves_whole_files_and_a_rerun_converges(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """The n-th call fails for n = 1, 2, 3 …: every path has the old or the new content, and the rerun the new."""
    old, new = b"old" * 1000, b"new" * 1000
    path, other, own = LocalPath.parse("exp/a"), LocalPath.parse("exp/leaf/b"), LocalPath.parse("exp/manifest.json")

    def work(root: DataRoot) -> None:
        group = [
            Publication(staged(root, new), path, hashlib.sha256(old).hexdigest()),
            Publication(staged(root, new), other),
        ]
        assert {outcome.result for outcome in publish(root, group)} <= {Result.PUBLISHED, Result.ADOPTED}
        write_own(root, own, new)

    for nth in count(1):
        place = tmp_path / str(nth)
        with DataRoot.open(place) as root:
            publish_one(root, str(path), old)
            write_own(root, own, old)
            with monkeypatch.context() as patch:
                fired = fail_nth(patch, nth, number)
                try:
                    work(root)
                except (HaltedForSafety, Retry):
                    assert fired()
                else:
                    assert not fired()
            assert {path, own} <= {LocalPath.parse(name) for name in tree(place)}
            assert set(tree(place).values()) <= {old, new}
            root.clean_staging(())
            work(root)
            assert tree(place) == {str(name): new for name in (path, other, own)}
            assert temporaries(place) == []
        if not fired():
            break
    assert nth > 20
