"""The private directory of a program of ours: what is taken from it, and that none stays behind for good."""

import os
import tempfile
from pathlib import Path

import pytest

from harvestd.errors import Retry
from harvestd.store import workshop


@pytest.fixture(autouse=True)
def _temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let temporary files lie below the test's own directory."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))


def test_what_a_killed_process_left_goes_with_time(tmp_path: Path) -> None:
    """A directory that is an hour old is removed as the next one is made; a young one and others' files are not."""
    old, young, other = workshop.set_up(), workshop.set_up(), tmp_path / "other"
    (old / "some.png").write_bytes(b"1")
    other.mkdir()
    for each in (old, other):
        os.utime(each, (0, 0))
    made = workshop.set_up()
    assert sorted(tmp_path.iterdir()) == sorted([young, other, made])
    assert made.stat().st_mode & 0o777 == 0o700


def test_only_files_of_their_own_are_taken(tmp_path: Path) -> None:
    """A link out of the directory, a pipe and another kind of file are not read."""
    made = workshop.set_up()
    secret = tmp_path / "secret"
    secret.write_bytes(b"secret")
    (made / "a.png").write_bytes(b"1")
    (made / "b.png").symlink_to(secret)
    os.mkfifo(made / "c.png")
    (made / "d.txt").write_bytes(b"2")
    assert workshop.made_in(made, ".png") == {"a.png": b"1"}
    workshop.clear_away(made)
    assert not made.exists()


def test_no_room_for_one_is_passing_trouble(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no directory can be made, whoever draws hears that it may try again."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "none"))
    with pytest.raises(Retry, match="temporary directory"):
        workshop.set_up()
