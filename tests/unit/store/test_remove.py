"""Removing our own files: what a person changed or put there stays, and a death in between leaves no half marker."""

import errno
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd import failpoints
from harvestd.convention.paths import LocalPath
from harvestd.store.move import make_link, pointed
from harvestd.store.remove import all_sizes_match, remove
from harvestd.store.root import DataRoot
from support.data_root import publish_one, tree

STEP = LocalPath.parse("exp/training_state/step_40")
NAMES = ("training_info.json", "model/weights.bin", "optimizer.pt")
FILES = [STEP.child(*name.split("/")) for name in NAMES]


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DataRoot]:
    """Open a data root that holds one checkpoint."""
    with DataRoot.open(tmp_path / "data") as opened:
        for path in FILES:
            publish_one(opened, str(path), path.name.encode())
        yield opened


def known() -> list[tuple[LocalPath, str]]:
    """Return the files as they were filed, the marker first."""
    return [(path, hashlib.sha256(path.name.encode()).hexdigest()) for path in FILES]


def test_all_of_it_goes(root: DataRoot) -> None:
    """With the directories that held nothing else, and without those above."""
    assert remove(root, STEP, known()) == {}
    assert tree(root.path) == {}
    assert (root.path / "exp" / "training_state").is_dir()
    assert not (root.path / str(STEP)).exists()
    assert remove(root, STEP, known()) == {}


def test_what_a_person_changed_or_added_stays(root: DataRoot) -> None:
    """It is named, with the reason; nothing else keeps what is ours."""
    (root.path / str(STEP) / "optimizer.pt").write_bytes(b"mine")
    (root.path / str(STEP) / "model" / "notes").write_bytes(b"mine too")
    assert remove(root, STEP, known()) == {FILES[2]: "it was changed here"}
    assert tree(root.path) == {f"{STEP}/optimizer.pt": b"mine", f"{STEP}/model/notes": b"mine too"}


def test_a_link_on_the_way_is_not_followed(root: DataRoot, tmp_path: Path) -> None:
    """Nothing outside the data root is removed by way of it."""
    outside = tmp_path / "outside"
    (root.path / str(STEP) / "model").rename(outside)
    (root.path / str(STEP) / "model").symlink_to(outside)
    left = remove(root, STEP, known())
    assert set(left) == {FILES[1]}
    assert (outside / "weights.bin").read_bytes() == b"weights.bin"


def test_what_may_not_be_removed_is_left(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that the file system does not let go stays, and is named; the others go."""
    real = os.unlink
    asked: list[bytes] = []

    def unlink(name: bytes, *, dir_fd: int) -> None:
        asked.append(name)
        if name == b"weights.bin":
            raise PermissionError(errno.EACCES, "not yours")
        real(name, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", unlink)
    assert set(remove(root, STEP, known())) == {FILES[1]}
    assert b"weights.bin" in asked
    assert set(tree(root.path)) == {str(FILES[1])}


class Died(BaseException):
    """The process ended."""


def test_the_marker_goes_first(root: DataRoot) -> None:
    """Whoever ends after the first file leaves no marker that would say of the rest that it is whole."""

    def die() -> None:
        raise Died

    with failpoints.armed("remove.unlinked", die), pytest.raises(Died):
        remove(root, STEP, known())
    assert set(tree(root.path)) == {str(path) for path in FILES[1:]}


def test_all_stand_or_not(root: DataRoot) -> None:
    """A file that is missing, of another size, or behind a link does not stand."""
    sizes = [(path, len(path.name)) for path in FILES]
    assert all_sizes_match(root, sizes)
    assert not all_sizes_match(root, [*sizes, (FILES[0], 1)])
    assert not all_sizes_match(root, [(STEP / "none", 0)])
    (root.path / str(STEP) / "model").rename(root.path / "moved")
    (root.path / str(STEP) / "model").symlink_to("../../../moved")
    assert not all_sizes_match(root, sizes)


def test_where_a_link_points(root: DataRoot) -> None:
    """It is told for links alone."""
    link = LocalPath.parse("exp/training_state/step_latest")
    assert pointed(root, link) is None
    make_link(root, link, "step_40")
    assert pointed(root, link) == "step_40"
    assert pointed(root, FILES[0]) is None
    assert pointed(root, LocalPath.parse("nowhere/at/all")) is None
