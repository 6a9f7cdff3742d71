"""The demo: the whole daemon on an embedded fleet, and a judge that can say no."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from harvestd.demo.expected import TRAINING_HOME, differences
from harvestd.errors import ExitCode
from support.command import harvestd_command
from support.house import is_own

SOURCE = Path(__file__).parents[2] / "daemon"


@pytest.fixture(scope="module")
def left_behind(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the directory that a whole demo left, with `--keep`."""
    directory = tmp_path_factory.mktemp("demo") / "kept"
    elsewhere = directory.with_name("real")
    ended = subprocess.run(
        [sys.executable, "-m", "harvestd", "demo", "--keep", str(directory)],
        env={**os.environ, "PYTHONPATH": str(SOURCE), **_of_a_real_daemon(elsewhere)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "Every file is where the convention wants it, byte for byte." in ended.stdout
    assert not elsewhere.exists()
    (directory / "said.txt").write_text(ended.stdout)
    return directory


def _of_a_real_daemon(data_root: Path) -> dict[str, str]:
    """Return the variables of somebody whose real daemon is configured in the environment."""
    return {
        "HARVESTD_DATA_ROOT": str(data_root),
        "HARVESTD_STATE_DIR": str(data_root / "state"),
        "HARVESTD_SELECT__CHECKPOINT": "none",
        "HARVESTD_NO_SUCH_KEY": "1",
    }


def test_the_demo_shows_the_tree_and_what_was_left_out(left_behind: Path) -> None:
    """A newcomer sees runs found, files grow, the tree, and a reason for everything that is not there."""
    output = (left_behind / "said.txt").read_text()
    for line in (
        "gpu-a  found run run_2025-08-20_03-31-43",
        "gpu-a  log grows in place: train_log.jsonl",
        "gpu-c  connected, reading by sftp",
        "step_latest -> step_final",
        "a husk: no config.yaml, so no run",
        'training_state/step_10  (rule: select.checkpoint = "final")',
    ):
        assert line in output


def test_the_manifest_names_every_file_with_its_hash_and_source(left_behind: Path) -> None:
    """What lies in an experiment's directory is what its manifest says."""
    home = left_behind / "downloaded_runs" / TRAINING_HOME
    manifest = json.loads((home / "manifest.json").read_bytes())
    listed = {file["path"]: file for file in manifest["files"]}
    there = {str(path.relative_to(home)) for path in home.rglob("*") if path.is_file() and not path.is_symlink()}
    assert {path for path in there if not is_own(f"{home.name}/{path}")} == listed.keys()
    assert all(file["size"] == (home / path).stat().st_size for path, file in listed.items())
    assert {file["host"] for file in listed.values()} == {"gpu-a"}


@pytest.mark.parametrize(
    ("spoil", "verdict"),
    [
        (lambda home: (home / "training_run/config.yaml").unlink(), "is missing"),
        (lambda home: (home / "training_run/notes.txt").write_text("x"), "should not be here"),
        (lambda home: (home / "base_eval/temp0.7_p1.0_r8/metrics.csv").write_text("x"), "is not what is on gpu-a"),
        (lambda home: (home / "training_run/training_state/step_latest").unlink(), "is missing"),
    ],
    ids=["missing", "too much", "altered", "no link"],
)
def test_a_wrong_tree_is_found_wrong(
    left_behind: Path, tmp_path: Path, spoil: Callable[[Path], object], verdict: str
) -> None:
    """The demo's verdict is worth something: each kind of damage is seen."""
    data_root = tmp_path / "data"
    shutil.copytree(left_behind / "downloaded_runs", data_root, symlinks=True)
    roots = {box.name: box / "localfs" for box in (left_behind / "fleet").iterdir() if box.is_dir()}
    assert differences(data_root, roots) == []
    spoil(data_root / TRAINING_HOME)
    found = differences(data_root, roots)
    assert len(found) == 1
    assert found[0].startswith(verdict)


def test_a_directory_that_is_there_is_not_taken(tmp_path: Path) -> None:
    """`--keep` with a directory that exists, or can't be made, ends with exit code 2 and a sentence."""
    (tmp_path / "file").write_text("")
    for place in (tmp_path, tmp_path / "file/below"):
        done = harvestd_command("demo", "--keep", place)
        assert done.code == ExitCode.CONFIGURATION
        assert done.err.startswith("error: ")
