"""What a person means by a path."""

from pathlib import Path

import pytest

from harvestd.cli.explain_details import LocalPlace, RemotePlace, place_of


@pytest.fixture
def data_root(tmp_path: Path) -> Path:
    """Return a data root with one file in it."""
    root = tmp_path / "data"
    (root / "experiment" / "logs").mkdir(parents=True)
    (root / "experiment" / "logs" / "log").touch()
    return root


def test_absolute_path_below_the_data_root_is_local(data_root: Path) -> None:
    """An absolute path is a place at home where the data root holds it, there already or not."""
    assert place_of(f"{data_root}/experiment/logs/log", data_root) == LocalPlace("experiment/logs/log", exists=True)
    assert place_of(f"{data_root}/none", data_root) == LocalPlace("none", exists=False)


def test_any_other_absolute_path_is_on_a_box(data_root: Path) -> None:
    """An absolute path elsewhere is one on whichever box has it."""
    assert place_of("/home/ubuntu/localfs/../x/", data_root) == RemotePlace("/home/ubuntu/x")


def test_host_and_path(data_root: Path) -> None:
    """HOST:/PATH is a place on one box, even where the data root has that path."""
    assert place_of(f"gpu-a:{data_root}/experiment", data_root) == RemotePlace(f"{data_root}/experiment", "gpu-a")


def test_relative_path_starts_where_one_stands(data_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Within the data root a relative path starts in the working directory, and `..` works."""
    monkeypatch.chdir(data_root / "experiment" / "logs")
    assert place_of("log", data_root) == LocalPlace("experiment/logs/log", exists=True)
    assert place_of("../logs", data_root) == LocalPlace("experiment/logs", exists=True)


def test_relative_path_else_starts_in_the_data_root(
    data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Outside the data root, and where nothing is in the working directory, a relative path starts in the data root."""
    monkeypatch.chdir(tmp_path)
    assert place_of("experiment/", data_root) == LocalPlace("experiment", exists=True)
    monkeypatch.chdir(data_root / "experiment")
    assert place_of("experiment/logs", data_root) == LocalPlace("experiment/logs", exists=True)


def test_data_root_through_a_link(data_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A data root that is reached through a link is the same data root."""
    (tmp_path / "link").symlink_to(data_root)
    assert place_of(f"{tmp_path}/link/experiment", data_root) == LocalPlace("experiment", exists=True)
    monkeypatch.chdir(data_root)
    assert place_of(".", tmp_path / "link") == LocalPlace("", exists=True)


def test_a_link_itself_is_meant(data_root: Path) -> None:
    """A link below the data root is not followed: it is what was asked about."""
    (data_root / "experiment" / "latest").symlink_to("/nowhere")
    assert place_of(f"{data_root}/experiment/latest", data_root) == LocalPlace("experiment/latest", exists=True)
