"""Temporaries: written, hashed, kept or gone."""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from harvestd.errors import HaltedForSafety
from harvestd.store.errors import Conflict
from harvestd.store.root import DataRoot
from support.data_root import staged, temporaries, watch_syncs


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DataRoot]:
    """Open a fresh data root."""
    with DataRoot.open(tmp_path) as opened:
        yield opened


def test_size_and_hash_run_along(root: DataRoot) -> None:
    """After each write, size and SHA-256 are those of the bytes so far, whatever type they came in."""
    with root.stage() as temporary:
        for piece in (b"abc", bytearray(b"def"), memoryview(b"ghi")):
            temporary.write(piece)
        assert temporary.size == 9
        assert temporary.hexdigest == hashlib.sha256(b"abcdefghi").hexdigest()
        assert (root.path / ".harvestd" / "staging" / temporary.name).read_bytes() == b"abcdefghi"


def test_an_anonymous_temporary_goes_with_its_user(root: DataRoot) -> None:
    """Leaving the block removes it, also with an error."""
    with pytest.raises(ZeroDivisionError), root.stage() as temporary:
        temporary.write(b"abc" * (1 // 0))
    assert temporaries(root.path) == []


def test_a_named_temporary_goes_on(root: DataRoot) -> None:
    """It stays when it is closed; resumed at the journalled length, its hash covers old and new bytes."""
    with root.stage("run-1-optimizer") as first:
        first.write(b"0123456789torn")
        first.sync()
    assert root.staged_names() == ("run-1-optimizer",)
    second = root.resume("run-1-optimizer", 10)
    assert second is not None
    with second:
        assert second.size == 10
        second.write(b"AB")
        assert second.hexdigest == hashlib.sha256(b"0123456789AB").hexdigest()
    assert (root.path / ".harvestd/staging/run-1-optimizer").read_bytes() == b"0123456789AB"


def test_a_temporary_longer_than_a_piece_is_rehashed_whole(root: DataRoot) -> None:
    """Resuming reads every piece of a file that is larger than one read."""
    content = os.urandom((1 << 20) + 17)
    with root.stage("large") as first:
        first.write(content)
    second = root.resume("large", len(content))
    assert second is not None
    assert second.hexdigest == hashlib.sha256(content).hexdigest()
    second.discard()


def test_what_is_too_short_is_not_resumed(root: DataRoot) -> None:
    """A temporary with fewer bytes than the journal knows is removed, so that the transfer starts over."""
    with root.stage("part") as first:
        first.write(b"123")
    assert root.resume("part", 4) is None
    assert temporaries(root.path) == []
    root.stage("part").discard()


def test_a_temporary_goes_on_by_another_name(root: DataRoot) -> None:
    """What was begun by one name is resumed by the other, and one that is not there is renamed without a word."""
    with root.stage("old") as first:
        first.write(b"0123456789")
        first.sync()
    root.staging.rename("old", "new")
    root.staging.rename("old", "new")
    assert root.resume("old", 10) is None
    with root.resume("new", 10) or root.stage() as again:
        assert again.hexdigest == hashlib.sha256(b"0123456789").hexdigest()


def test_an_unknown_name_is_not_resumed(root: DataRoot) -> None:
    """Where there is no temporary of that name, resuming says so."""
    assert root.resume("part", 0) is None


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo"])
def test_only_a_plain_file_with_one_name_is_resumed(root: DataRoot, kind: str) -> None:
    """What was planted in place of a temporary is removed unopened; a file elsewhere keeps its content."""
    mine = root.path / "mine"
    mine.write_bytes(b"precious")
    planted = root.path / ".harvestd" / "staging" / "part"
    match kind:
        case "link":
            planted.symlink_to(mine)
        case "hard link":
            planted.hardlink_to(mine)
        case _:
            os.mkfifo(planted)
    assert root.resume("part", 4) is None
    assert temporaries(root.path) == []
    assert mine.read_bytes() == b"precious"


def test_a_name_is_not_taken_twice(root: DataRoot) -> None:
    """A second temporary of the same name is a conflict, and the first keeps its bytes."""
    with root.stage("part") as first:
        first.write(b"123")
        with pytest.raises(Conflict):
            root.stage("part")
    assert (root.path / ".harvestd/staging/part").read_bytes() == b"123"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "UPPER", "x" * 129, "a\n"])
def test_names_outside_the_alphabet_are_a_bug(root: DataRoot, name: str) -> None:
    """A name that isn't made of a-z, 0-9 and hyphens is refused before anything is opened."""
    with pytest.raises(ValueError, match="name"):
        root.stage(name)
    with pytest.raises(ValueError, match="name"):
        root.resume(name, 0)


def test_cleaning_keeps_what_the_journal_knows(root: DataRoot) -> None:
    """At start-up everything but the journalled temporaries goes; a directory is never one."""
    root.stage("keep").close()
    root.stage("drop").close()
    (root.path / ".harvestd" / "staging" / ".crashed").write_bytes(b"half")
    (root.path / ".harvestd" / "staging" / "directory").mkdir()
    assert root.clean_staging({"keep"}) == (".crashed", "drop")
    assert temporaries(root.path) == ["directory", "keep"]


def test_what_is_written_after_a_sync_is_synced_again(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sync covers what was written before it; with nothing new the next one costs nothing."""
    with staged(root, b"123") as temporary:
        synced = watch_syncs(monkeypatch, root.path)
        temporary.sync()
        temporary.sync()
        assert len(synced) == 1
        temporary.write(b"4")
        temporary.sync()
        assert len(synced) == 2


def test_a_failed_sync_ends_the_temporary(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """After EIO from fsync the same file is never tried again: it is gone, named or not."""

    def fail(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    first, second = staged(root, b"123"), root.stage("named")
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        for temporary in (first, second):
            with pytest.raises(HaltedForSafety):
                temporary.sync()
    assert temporaries(root.path) == []


def _refuse(*_: int) -> int:
    raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))


@pytest.mark.parametrize("copy_range", [os.copy_file_range, _refuse], ids=["by the file system", "by reading"])
def test_a_copy_is_hashed_as_it_is_written(
    root: DataRoot, monkeypatch: pytest.MonkeyPatch, copy_range: Callable[..., int]
) -> None:
    """In steps, behind what is here already; a source that ends early leaves the temporary as short."""
    monkeypatch.setattr(os, "copy_file_range", copy_range)
    content = os.urandom((2 << 20) + 17)
    (root.path / "source").write_bytes(content)
    with root.stage() as temporary, (root.path / "source").open("rb") as source:
        temporary.write(content[:5])
        for end in (5, 1 << 20, len(content), len(content) + 1):
            temporary.copy(source.fileno(), end)
            assert temporary.size == min(end, len(content))
        assert temporary.hexdigest == hashlib.sha256(content).hexdigest()
        assert temporary.read(0, len(content)) == content
