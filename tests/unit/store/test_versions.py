"""What was replaced: kept, counted, never washed out."""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd.convention.paths import LocalPath
from harvestd.store import versions
from harvestd.store.errors import Conflict
from harvestd.store.publish import Result
from harvestd.store.root import DataRoot
from harvestd.store.versions import KEEP, list_versions, read_version, set_aside
from support.data_root import names_in, publish_one, tree

PATH = LocalPath.parse("exp/metrics.csv")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DataRoot]:
    """Open a fresh data root."""
    (tmp_path / "outside").mkdir()
    with DataRoot.open(tmp_path / "data") as opened:
        yield opened


def rewrite(root: DataRoot, times: int) -> None:
    """Publish 0, then replace it by 1, 2, … each knowing the one before."""
    publish_one(root, str(PATH), b"0")
    for number in range(1, times + 1):
        known = hashlib.sha256(str(number - 1).encode()).hexdigest()
        assert publish_one(root, str(PATH), str(number).encode(), known).result == Result.PUBLISHED


def kept(root: DataRoot) -> list[bytes]:
    """Return the kept contents, oldest first."""
    return [read_version(root, PATH, version.stamp) for version in list_versions(root, PATH)]


def test_each_replaced_version_is_kept_in_order(root: DataRoot) -> None:
    """Replaced contents stand among the versions, oldest first, with their sizes."""
    rewrite(root, 3)
    assert kept(root) == [b"0", b"1", b"2"]
    assert [version.size for version in list_versions(root, PATH)] == [1, 1, 1]


def test_a_rewriting_box_does_not_wash_out_the_first_version(root: DataRoot) -> None:
    """Of too many versions the first and the newest stay."""
    rewrite(root, KEEP + 4)
    assert kept(root) == [b"0", b"5", b"6", b"7", b"8"]


def test_a_clock_that_goes_back_does_not_mix_the_order(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names sort in the order of keeping even where the clock stands still or goes back."""
    times = iter([2_000_000_000_999_999_999, 1_000_000_000_000_000_000, 1_999_999_999_000_000_000])
    monkeypatch.setattr(versions, "time_ns", lambda: next(times))
    rewrite(root, 3)
    assert kept(root) == [b"0", b"1", b"2"]
    assert list_versions(root, PATH)[1].stamp == "20330518T033321.000000000Z"


def test_no_versions(root: DataRoot) -> None:
    """A file that was never replaced has none."""
    assert list_versions(root, PATH) == ()


def test_setting_aside_moves_the_file(root: DataRoot) -> None:
    """The file stands among its versions and its path is free; a second call finds nothing to do."""
    publish_one(root, str(PATH), b"log of the first life")
    assert set_aside(root, PATH)
    assert tree(root.path) == {}
    assert kept(root) == [b"log of the first life"]
    assert not set_aside(root, PATH)


@pytest.mark.parametrize("kind", ["link", "directory"])
def test_only_a_file_is_set_aside(root: DataRoot, kind: str) -> None:
    """A link or a directory at the path is a conflict and stays."""
    place = root.path / "a"
    if kind == "link":
        place.symlink_to(root.path.parent / "outside")
    else:
        place.mkdir()
    with pytest.raises(Conflict):
        set_aside(root, LocalPath.parse("a"))
    assert place.is_symlink() == (kind == "link")
    assert place.is_dir()


def test_a_link_planted_among_the_versions_is_not_followed(root: DataRoot) -> None:
    """A link in place of a versions directory stops the replacement and leads nothing outside."""
    publish_one(root, str(PATH), b"old")
    (root.path / ".harvestd" / "versions" / "exp").symlink_to(root.path.parent / "outside")
    outcome = publish_one(root, str(PATH), b"new", hashlib.sha256(b"old").hexdigest())
    assert outcome.result == Result.CONFLICT
    assert tree(root.path) == {str(PATH): b"old"}
    assert names_in(root.path.parent / "outside") == []


def test_the_longest_name_has_versions(root: DataRoot) -> None:
    """A name of 255 bytes can be replaced: a version's name doesn't contain it."""
    name = "n" * 255
    publish_one(root, name, b"old")
    assert publish_one(root, name, b"new", hashlib.sha256(b"old").hexdigest()).result == Result.PUBLISHED
    assert len(list_versions(root, LocalPath((name,)))) == 1
