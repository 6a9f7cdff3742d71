"""Links, moves and harvestd's own files."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.store.errors import Conflict
from harvestd.store.move import make_link, move
from harvestd.store.publish import Result
from harvestd.store.remove import write_own
from harvestd.store.root import DataRoot
from harvestd.store.versions import list_versions, set_aside
from support.data_root import RENAMEAT2, names_in, publish_one, temporaries, tree, watch_syncs

LATEST = LocalPath.parse("exp/training_state/step_latest")


@pytest.fixture
def root(tmp_path: Path) -> Iterator[DataRoot]:
    """Open a fresh data root."""
    (tmp_path / "outside").mkdir()
    with DataRoot.open(tmp_path / "data") as opened:
        yield opened


def test_a_link_is_made_moved_on_and_left(root: DataRoot) -> None:
    """A new link, the same again, and one that points elsewhere."""
    assert make_link(root, LATEST, "step_20") == Result.PUBLISHED
    assert make_link(root, LATEST, "step_20") == Result.ADOPTED
    assert make_link(root, LATEST, "step_final") == Result.PUBLISHED
    assert tree(root.path) == {str(LATEST): "-> step_final"}
    assert temporaries(root.path) == []


@pytest.mark.parametrize("target", ["..", ".", "", "a/b", "/etc/passwd", "../x", ".harvestd", "a\0b"])
def test_a_link_points_at_its_neighbour_only(root: DataRoot, target: str) -> None:
    """A target that is no single plain name is refused before anything is made."""
    with pytest.raises(RejectedPath):
        make_link(root, LATEST, target)
    assert tree(root.path) == {}


@pytest.mark.parametrize("kind", ["file", "directory", "linked parent"])
def test_a_link_replaces_nothing_but_a_link(root: DataRoot, kind: str) -> None:
    """A file or a directory in its place is a conflict, and so is a linked directory on the way."""
    place = root.path / str(LATEST)
    place.parent.mkdir(parents=True)
    match kind:
        case "file":
            place.write_bytes(b"mine")
        case "directory":
            place.mkdir()
        case _:
            place.parent.rmdir()
            place.parent.symlink_to(root.path.parent / "outside")
    assert make_link(root, LATEST, "step_final") == Result.CONFLICT
    assert not place.is_symlink()
    assert names_in(root.path.parent / "outside") == []
    assert temporaries(root.path) == []


def test_a_name_that_is_taken_in_the_last_moment(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that appears just before the link is made wins, and the link's temporary is gone."""

    def taken(*_: object) -> None:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))

    monkeypatch.setattr("harvestd.store.move.rename_noreplace", taken)
    assert make_link(root, LATEST, "step_final") == Result.CONFLICT
    assert temporaries(root.path) == []


def test_everything_is_synced(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """A link, a file of our own and a move are on disk, with their directories, when the call returns."""
    synced = watch_syncs(monkeypatch, root.path)
    make_link(root, LATEST, "step_final")
    assert synced == ["", "/exp", "/exp/training_state"]
    synced.clear()
    write_own(root, LocalPath.parse("exp/README.md"), b"1")
    assert synced[0].startswith("/.harvestd/staging/")
    assert synced[1:] == ["/exp"]
    synced.clear()
    move(root, LocalPath.parse("exp/README.md"), LocalPath.parse("new/README.md"))
    assert synced == ["", "/exp", "/new"]


def test_no_links_on_this_file_system(root: DataRoot, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the file system has no links the answer is REFUSED."""

    def fail(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, os.strerror(errno.EPERM))

    monkeypatch.setattr(os, "symlink", fail)
    assert make_link(root, LATEST, "step_final") == Result.REFUSED


def test_own_files_are_replaced_whole(root: DataRoot) -> None:
    """The old content gives way to the new one in one step; a link there is replaced, not followed."""
    path = LocalPath.parse("exp/manifest.json")
    write_own(root, path, b"1")
    before = (root.path / str(path)).stat().st_ino
    write_own(root, path, b"22")
    assert (root.path / str(path)).stat().st_ino != before
    (root.path.parent / "outside" / "secret").write_bytes(b"secret")
    (root.path / str(path)).unlink()
    (root.path / str(path)).symlink_to(root.path.parent / "outside" / "secret")
    write_own(root, path, b"333")
    assert tree(root.path) == {str(path): b"333"}
    assert tree(root.path.parent / "outside") == {"secret": b"secret"}
    assert temporaries(root.path) == []


def test_own_files_leave_a_directory_alone(root: DataRoot) -> None:
    """A directory in the way is a conflict, and the temporary is gone."""
    (root.path / "exp" / "manifest.json").mkdir(parents=True)
    with pytest.raises(Conflict):
        write_own(root, LocalPath.parse("exp/manifest.json"), b"1")
    assert temporaries(root.path) == []


@pytest.fixture(params=["renameat2", "links only"])
def moves(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Move on a file system that can refuse to replace, and on one that can't."""
    if request.param == "links only":
        monkeypatch.setattr(RENAMEAT2, None)
    return str(request.param)


@pytest.mark.usefixtures("moves")
def test_an_experiment_moves_with_its_versions(root: DataRoot) -> None:
    """A directory is renamed as a whole, its kept versions follow, and doing it again changes nothing."""
    for content in (b"first life", b"second life"):
        publish_one(root, "old/logs/train_log.jsonl", content)
        set_aside(root, LocalPath.parse("old/logs/train_log.jsonl"))
    publish_one(root, "old/logs/train_log.jsonl", b"third life")
    old, new = LocalPath.parse("old"), LocalPath.parse("new")
    assert move(root, old, new) == Result.PUBLISHED
    assert tree(root.path) == {"new/logs/train_log.jsonl": b"third life"}
    assert len(list_versions(root, LocalPath.parse("new/logs/train_log.jsonl"))) == 2
    assert move(root, old, new) == Result.ADOPTED


@pytest.mark.usefixtures("moves")
def test_a_file_moves_into_new_directories(root: DataRoot) -> None:
    """An eval that was unfiled moves below its experiment, which is made."""
    publish_one(root, "_unfiled/gpu-a/leaf/metrics.csv", b"1")
    source, target = LocalPath.parse("_unfiled/gpu-a/leaf"), LocalPath.parse("exp/eval_results/leaf")
    assert move(root, source, target) == Result.PUBLISHED
    assert tree(root.path) == {"exp/eval_results/leaf/metrics.csv": b"1"}


@pytest.mark.usefixtures("moves")
@pytest.mark.parametrize("kind", ["directory", "empty directory", "file", "link"])
def test_a_move_replaces_nothing(root: DataRoot, kind: str) -> None:
    """Whatever stands at the new place, both places stay as they are."""
    publish_one(root, "old/a", b"1")
    place = root.path / "new"
    match kind:
        case "directory":
            publish_one(root, "new/a", b"2")
        case "empty directory":
            place.mkdir()
        case "file":
            place.write_bytes(b"2")
        case _:
            place.symlink_to("elsewhere")
    before = tree(root.path)
    assert move(root, LocalPath.parse("old"), LocalPath.parse("new")) == Result.CONFLICT
    assert tree(root.path) == before


@pytest.mark.usefixtures("moves")
def test_a_directory_does_not_move_into_itself(root: DataRoot) -> None:
    """An impossible move is refused; the content stays at its place."""
    publish_one(root, "old/a", b"1")
    assert move(root, LocalPath.parse("old"), LocalPath.parse("old/below")) == Result.REFUSED
    assert tree(root.path) == {"old/a": b"1"}


def test_nothing_to_move_is_a_conflict(root: DataRoot) -> None:
    """Where neither place exists the move did not happen."""
    assert move(root, LocalPath.parse("old"), LocalPath.parse("new")) == Result.CONFLICT
