"""Growing files: always a prefix, cut to the journal, never through a link."""

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd.convention.paths import LocalPath
from harvestd.errors import DiskFull, HaltedForSafety
from harvestd.store.errors import Conflict, Damaged
from harvestd.store.growing import GrowingFile
from harvestd.store.root import DataRoot
from harvestd.store.versions import list_versions, read_version
from support.data_root import descriptors, publish_one, tree, watch_syncs

PATH = LocalPath.parse("exp/logs/train_log.jsonl")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DataRoot]:
    """Open a fresh data root."""
    (tmp_path / "outside").mkdir()
    with DataRoot.open(tmp_path / "data") as opened:
        yield opened


def test_it_grows_where_it_stands(root: DataRoot) -> None:
    """Appended bytes are there at once, under the same inode, and the hash runs along."""
    with GrowingFile.create(root, PATH) as growing:
        inode = (root.path / str(PATH)).stat().st_ino
        growing.append(b"one\n")
        growing.append(memoryview(b"two\n"))
        growing.sync()
        assert growing.length == 8
        assert growing.hexdigest() == hashlib.sha256(b"one\ntwo\n").hexdigest()
        assert growing.hash_range(2, 6) == hashlib.sha256(b"e\ntw").hexdigest()
    assert (root.path / str(PATH)).stat().st_ino == inode
    assert tree(root.path) == {str(PATH): b"one\ntwo\n"}


def test_it_goes_on_where_the_journal_stands(root: DataRoot) -> None:
    """What the journal doesn't know is cut off; the hash covers the rest, also over many pieces."""
    content = os.urandom((2 << 20) + 5)
    publish_one(root, str(PATH), content + b"torn li")
    with GrowingFile.open(root, PATH, len(content)) as growing:
        assert growing.length == len(content)
        assert growing.hexdigest() == hashlib.sha256(content).hexdigest()
        growing.append(b"more")
        assert growing.hexdigest() == hashlib.sha256(content + b"more").hexdigest()
        assert growing.hash_range(0, growing.length) == growing.hexdigest()
    assert tree(root.path) == {str(PATH): content + b"more"}


@pytest.mark.parametrize("journalled", [0, 4])
def test_what_is_cut_off_is_kept_as_a_version(root: DataRoot, journalled: int) -> None:
    """It may be a line that a person added while no daemon ran: nothing that is here is deleted. It is kept once."""
    publish_one(root, str(PATH), b"one\nnote to self\n")
    GrowingFile.open(root, PATH, journalled).close()
    assert tree(root.path) == {str(PATH): b"one\n"[:journalled]}
    kept = list_versions(root, PATH)
    assert [read_version(root, PATH, version.stamp) for version in kept] == [b"one\nnote to self\n"]
    GrowingFile.open(root, PATH, journalled).close()
    assert list_versions(root, PATH) == kept


def test_nothing_journalled_makes_the_file(root: DataRoot) -> None:
    """A crash before the first append leaves no file or an empty one; both go on."""
    for _ in range(2):
        with GrowingFile.open(root, PATH, 0) as growing:
            assert growing.length == 0
    with GrowingFile.create(root, PATH) as growing:
        assert growing.length == 0


def test_a_shorter_or_missing_file_is_damaged(root: DataRoot) -> None:
    """A file with fewer bytes than were written is told, and left as it is for the caller to set aside."""
    with pytest.raises(Damaged, match="gone"):
        GrowingFile.open(root, PATH, 3)
    publish_one(root, str(PATH), b"12")
    with pytest.raises(Damaged, match="has 2 bytes, 3 were written"):
        GrowingFile.open(root, PATH, 3)
    assert tree(root.path) == {str(PATH): b"12"}


def test_a_persons_file_is_not_taken_for_a_new_one(root: DataRoot) -> None:
    """A file with content that the catalogue doesn't know is a conflict and keeps its content."""
    publish_one(root, str(PATH), b"copied by hand")
    with pytest.raises(Conflict, match="did not file"):
        GrowingFile.create(root, PATH)
    assert tree(root.path) == {str(PATH): b"copied by hand"}


@pytest.mark.parametrize("kind", ["link", "hard link", "linked directory", "directory", "fifo"])
@pytest.mark.parametrize("journalled", [0, 4])
def test_only_a_plain_file_is_opened(root: DataRoot, kind: str, journalled: int) -> None:
    """Links, hard links, directories and FIFOs at the path are conflicts; what they lead to keeps its bytes."""
    outside = root.path.parent / "outside"
    (outside / "train_log.jsonl").write_bytes(b"precious")
    place = root.path / str(PATH)
    place.parent.mkdir(parents=True)
    match kind:
        case "link":
            place.symlink_to(outside / "train_log.jsonl")
        case "hard link":
            place.hardlink_to(outside / "train_log.jsonl")
        case "linked directory":
            place.parent.rmdir()
            place.parent.symlink_to(outside)
        case "directory":
            place.mkdir()
        case _:
            os.mkfifo(place)
    with pytest.raises(Conflict):
        GrowingFile.open(root, PATH, journalled)
    assert tree(outside) == {"train_log.jsonl": b"precious"}


def test_an_edit_by_somebody_else_is_noticed(root: DataRoot) -> None:
    """Before an append the length is compared: a person's edit is not built upon."""
    with GrowingFile.create(root, PATH) as growing:
        growing.append(b"one\n")
        with (root.path / str(PATH)).open("ab") as other:
            other.write(b"note to self\n")
        with pytest.raises(Damaged):
            growing.append(b"two\n")
    assert tree(root.path) == {str(PATH): b"one\nnote to self\n"}


def test_a_range_beyond_the_end_is_damaged(root: DataRoot) -> None:
    """A hash is never given for bytes that are not here."""
    with GrowingFile.create(root, PATH) as growing:
        growing.append(b"one\n")
        with pytest.raises(Damaged):
            growing.hash_range(0, 5)


def test_a_failed_append_leaves_no_torn_line(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the disk fills up half-way through an append, the half is cut off and the file can go on."""
    real = os.pwrite
    room = [3]

    def full(file: int, data: memoryview, offset: int) -> int:
        taken = real(file, data[: room[0]], offset)
        room[0] -= taken
        if not taken:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return taken

    with GrowingFile.create(root, PATH) as growing:
        growing.append(b"one\n")
        with monkeypatch.context() as patch:
            patch.setattr(os, "pwrite", full)
            with pytest.raises(DiskFull):
                growing.append(b"two\n")
        assert tree(root.path) == {str(PATH): b"one\n"}
        growing.append(b"two\n")
        assert growing.hexdigest() == root.sha256(PATH)


def test_a_new_files_name_is_synced_once(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first sync covers the new directories too, later ones the data alone."""
    synced = watch_syncs(monkeypatch, root.path)
    with GrowingFile.create(root, PATH) as growing:
        growing.sync()
        assert synced == ["", "/exp", "/exp/logs"]
        growing.append(b"x")
        growing.sync()
        assert len(synced) == 3


def test_a_failed_sync_halts(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO from fdatasync is told as what it is, so that nothing is journalled."""

    def fail(_file: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    with GrowingFile.create(root, PATH) as growing:
        monkeypatch.setattr(os, "fdatasync", fail)
        with pytest.raises(HaltedForSafety):
            growing.sync()


def test_no_descriptor_is_left_after_a_refusal(root: DataRoot) -> None:
    """Refused openings close what they opened."""
    publish_one(root, "a", b"12")
    before = descriptors()
    with pytest.raises(Damaged):
        GrowingFile.open(root, LocalPath.parse("a"), 3)
    with pytest.raises(Conflict):
        GrowingFile.create(root, LocalPath.parse("a"))
    assert descriptors() == before
