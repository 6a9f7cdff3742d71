"""Opening a data root, and looking into it."""

import os
import stat
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd.convention.paths import LocalPath
from harvestd.errors import ExitCode, Fatal
from harvestd.store import checks
from harvestd.store.errors import Conflict, Damaged
from harvestd.store.root import DataRoot
from support.data_root import descriptors, names_in, publish_one, watch_syncs


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DataRoot]:
    """Open a fresh data root."""
    with DataRoot.open(tmp_path / "data") as opened:
        yield opened


def test_opening_makes_the_root_and_its_private_directory(tmp_path: Path) -> None:
    """A missing root is made, with staging and versions in a directory that only its owner may enter."""
    with DataRoot.open(tmp_path / "deep" / "data"):
        own = tmp_path / "deep" / "data" / ".harvestd"
        assert stat.S_IMODE(own.stat().st_mode) == 0o700
        assert names_in(own) == ["root.json", "staging", "versions"]
        assert names_in(own / "staging") == []


def test_a_new_root_is_on_disk_when_it_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The catalogue may remember the id at once: the sentinel, its name and its directory are synced."""
    synced = watch_syncs(monkeypatch, tmp_path)
    DataRoot.open(tmp_path).close()
    assert [name for name in synced if not name.startswith("/.harvestd/staging/")] == ["", *["/.harvestd"] * 3]
    assert len(synced) == 5


def test_a_lax_directory_of_ours_is_made_private(tmp_path: Path) -> None:
    """Temporaries in a directory that others may enter would be theirs to touch, so its mode is corrected."""
    DataRoot.open(tmp_path).close()
    (tmp_path / ".harvestd" / "staging").chmod(0o777)
    DataRoot.open(tmp_path).close()
    assert stat.S_IMODE((tmp_path / ".harvestd" / "staging").stat().st_mode) == 0o700


def test_two_that_open_a_new_root_agree_on_its_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where another process makes the sentinel first, its id is taken."""
    with DataRoot.open(tmp_path) as first:
        read, unseen = checks.read_sentinel, [True]
        monkeypatch.setattr(checks, "read_sentinel", lambda own: None if unseen and unseen.pop() else read(own))
        with DataRoot.open(tmp_path) as second:
            assert second.id == first.id


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount")
def test_our_directory_on_another_file_system_is_refused(tmp_path: Path) -> None:
    """Files can't move into place from another file system, so that is told at the start."""
    (tmp_path / ".harvestd").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path / ".harvestd"], check=True)
    try:
        with pytest.raises(Fatal, match="another file system"):
            DataRoot.open(tmp_path)
    finally:
        subprocess.run(["umount", "--lazy", tmp_path / ".harvestd"], check=True)


def test_the_id_stays(tmp_path: Path) -> None:
    """The sentinel is made once: a second opening gives the same UUID, and accepts it as the expected one."""
    with DataRoot.open(tmp_path) as first:
        assert str(uuid.UUID(first.id)) == first.id
    with DataRoot.open(tmp_path, expected_id=first.id) as second:
        assert second.id == first.id


@pytest.mark.parametrize("mounted", [True, False], ids=["an empty directory", "no directory"])
def test_an_unknown_root_is_refused_and_left_alone(tmp_path: Path, *, mounted: bool) -> None:
    """Where the catalogue knows another data root, an unmounted disk's place is refused and nothing is made in it."""
    place = tmp_path / "data"
    if mounted:
        place.mkdir()
    with pytest.raises(Fatal) as refusal:
        DataRoot.open(place, expected_id=str(uuid.uuid4()))
    assert refusal.value.exit_code == ExitCode.CONFIGURATION
    assert "mounted" in refusal.value.hint
    assert place.exists() == mounted
    assert not mounted or names_in(place) == []


def test_another_root_is_refused(tmp_path: Path) -> None:
    """A data root with another id than the expected one is refused."""
    DataRoot.open(tmp_path).close()
    with pytest.raises(Fatal, match="not the data root that the catalogue knows"):
        DataRoot.open(tmp_path, expected_id=str(uuid.uuid4()))


def test_a_damaged_sentinel_is_refused(tmp_path: Path) -> None:
    """A sentinel that can't be read is never replaced by a new one."""
    DataRoot.open(tmp_path).close()
    (tmp_path / ".harvestd" / "root.json").write_text('{"id": 7}')
    with pytest.raises(Fatal, match=r"root\.json"):
        DataRoot.open(tmp_path)
    assert (tmp_path / ".harvestd" / "root.json").read_text() == '{"id": 7}'


def test_without_create_the_root_must_exist(tmp_path: Path) -> None:
    """A missing root is told, not made, where the caller doesn't want it made."""
    with pytest.raises(Fatal, match="there is no directory"):
        DataRoot.open(tmp_path / "data", create=False)
    assert not (tmp_path / "data").exists()


def test_a_file_is_no_root(tmp_path: Path) -> None:
    """A data_root that names a file is refused with a hint."""
    (tmp_path / "data").write_text("mine")
    with pytest.raises(Fatal) as refusal:
        DataRoot.open(tmp_path / "data")
    assert refusal.value.hint


def test_a_linked_root_is_the_operators_choice(tmp_path: Path) -> None:
    """The path to the root may lead through links; only below it are they never followed."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    with DataRoot.open(tmp_path / "data") as root:
        publish_one(root, "a", b"1")
    assert (tmp_path / "disk" / "a").read_bytes() == b"1"


@pytest.mark.parametrize("name", [".harvestd", ".harvestd/staging", ".harvestd/versions"])
def test_a_link_in_place_of_our_own_directory_is_refused(tmp_path: Path, name: str) -> None:
    """Harvestd's own directories are never reached through a link."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "data" / ".harvestd").parent.mkdir()
    if "/" in name:
        (tmp_path / "data" / ".harvestd").mkdir()
    (tmp_path / "data" / name).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(Fatal, match="not a directory"):
        DataRoot.open(tmp_path / "data")
    assert names_in(tmp_path / "elsewhere") == []


def test_a_root_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    """A directory in which no file can be made is refused at the start, with a hint."""
    place = tmp_path / "data"
    place.mkdir(mode=0o555)
    if os.geteuid() == 0:
        # Root may write whatever the mode says, but for what the file system itself forbids.
        place = Path("/proc/self")
    with pytest.raises(Fatal) as refusal:
        DataRoot.open(place)
    assert refusal.value.hint


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount; the directory's mode is tested instead")
def test_a_read_only_file_system_is_refused(tmp_path: Path) -> None:
    """A root on a file system that is mounted read-only is refused at the start, also if it was one before."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", tmp_path], check=True)
    try:
        DataRoot.open(tmp_path / "data").close()
        subprocess.run(["mount", "-o", "remount,ro", tmp_path], check=True)
        for place in (tmp_path / "data", tmp_path / "new"):
            with pytest.raises(Fatal, match="can't be written"):
                DataRoot.open(place)
    finally:
        subprocess.run(["umount", "--lazy", tmp_path], check=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a directory to another user")
def test_another_users_root_is_refused(tmp_path: Path) -> None:
    """Root doesn't file things into another user's data root, where that user couldn't touch them."""
    DataRoot.open(tmp_path).close()
    os.chown(tmp_path / ".harvestd", 12345, 12345)
    with pytest.raises(Fatal, match="belongs to user 12345"):
        DataRoot.open(tmp_path)


def test_files_and_directories_get_the_umasks_mode(tmp_path: Path) -> None:
    """Published files and their directories have the operator's umask, although staging is private."""
    before = os.umask(0o027)
    try:
        with DataRoot.open(tmp_path) as root:
            publish_one(root, "exp/config.yaml", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "exp").stat().st_mode) == 0o750
    assert stat.S_IMODE((tmp_path / "exp" / "config.yaml").stat().st_mode) == 0o640


def test_stat_shows_what_stands_there_and_follows_nothing(root: DataRoot) -> None:
    """A file, nothing, nothing in a missing directory, a link itself; a link on the way is a conflict."""
    publish_one(root, "exp/a", b"123")
    (root.path / "exp" / "link").symlink_to("a")
    (root.path / "way").symlink_to("exp")
    found = root.stat(LocalPath.parse("exp/a"))
    assert found is not None
    assert found.st_size == 3
    assert root.stat(LocalPath.parse("exp/b")) is None
    assert root.stat(LocalPath.parse("no/such/b")) is None
    link = root.stat(LocalPath.parse("exp/link"))
    assert link is not None
    assert stat.S_ISLNK(link.st_mode)
    with pytest.raises(Conflict):
        root.stat(LocalPath.parse("way/a"))


def test_listing_gives_every_name_but_our_own(root: DataRoot) -> None:
    """A listing has all names, sorted, undecodable ones too, and never the reserved directory."""
    publish_one(root, "b/file", b"1")
    publish_one(root, "a\udcff", b"12")
    assert {name: found.st_size for name, found in root.listing(None).items() if name != "b"} == {"a\udcff": 2}
    assert list(root.listing(None)) == ["a\udcff", "b"]
    assert list(root.listing(LocalPath.parse("b"))) == ["file"]
    with pytest.raises(FileNotFoundError):
        root.listing(LocalPath.parse("c"))


def test_reading_and_hashing(root: DataRoot) -> None:
    """Content comes back whole, a limit is kept, and links and FIFOs are neither followed nor waited for."""
    publish_one(root, "a", b"hello")
    (root.path / "link").symlink_to("a")
    os.mkfifo(root.path / "fifo")
    assert root.read(LocalPath.parse("a"), 5) == b"hello"
    assert root.sha256(LocalPath.parse("a")) == "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
    with pytest.raises(Damaged):
        root.read(LocalPath.parse("a"), 4)
    for name in ("link", "fifo"):
        with pytest.raises(Conflict):
            root.sha256(LocalPath.parse(name))
    with pytest.raises(FileNotFoundError):
        root.read(LocalPath.parse("b"), 4)


def test_a_readers_own_error_is_not_the_disks(root: DataRoot) -> None:
    """A broken connection of whoever sends a file on is not reported as a failing disk."""
    publish_one(root, "a", b"hello")
    with pytest.raises(ConnectionResetError), root.reading(LocalPath.parse("a")):
        raise ConnectionResetError


def test_free_bytes_is_what_the_file_system_says(root: DataRoot) -> None:
    """The free space is that of the data root's file system for this user."""
    expected = os.statvfs(root.path)
    assert abs(root.free_bytes() - expected.f_bavail * expected.f_frsize) < 1 << 30


def test_names_of_any_bytes_reach_the_disk_unchanged(root: DataRoot) -> None:
    """A name that is not UTF-8 stands on disk with the bytes that the box sent."""
    publish_one(root, "run\udcfe\udcff/\udc80", b"x")
    assert (root.path / os.fsdecode(b"run\xfe\xff") / os.fsdecode(b"\x80")).read_bytes() == b"x"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    """Opening, working and closing leaves the process with the descriptors that it had, also after a refusal."""
    before = descriptors()
    with DataRoot.open(tmp_path / "data") as root:
        publish_one(root, "a/b/c", b"1")
        publish_one(root, "a/b/c/d", b"1")
        publish_one(root, "a/b/c", b"2")
    with pytest.raises(Fatal):
        DataRoot.open(tmp_path / "data", expected_id="another")
    assert descriptors() == before
    with pytest.raises(OSError, match="Bad file descriptor"):
        root.stat(LocalPath.parse("a"))
