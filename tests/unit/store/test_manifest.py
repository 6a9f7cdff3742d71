"""manifest.json: complete, stable, and checked when it is read."""

import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from harvestd.convention.paths import LocalPath, RejectedPath
from harvestd.errors import Fatal
from harvestd.store.errors import Damaged
from harvestd.store.manifest import (
    Experiment,
    FiledFile,
    FileState,
    LeftOut,
    MadeLink,
    Manifest,
    NamePart,
    Run,
    from_json,
    read_manifest,
    to_json,
    write_manifest,
)
from harvestd.store.root import DataRoot

DIRECTORY = LocalPath.parse("baseline_training_2025-08-20_qwen2_5_1_5b_h100_64steps")


CONFIG = FiledFile(
    path="training_run/config.yaml",
    kind="config",
    size=3,
    sha256="ab" * 32,
    state=FileState.SEALED,
    host="gpu-a",
    storage="fs-1",
    remote_path="training_runs/run_2025-08-20_03-31-43/config.yaml",
    mtime_ns=1_755_660_703_123_456_789,
    fetched_at=datetime(2025, 8, 20, 3, 40, tzinfo=UTC),
)
MANIFEST = Manifest(
    Experiment("e1", DIRECTORY.name, {"date": NamePart("2025-08-20", "the run directory's name")}),
    (Run("gpu-a", "fs-1", "run_2025-08-20_03-31-43", "run_2025-08-20_03-31-43"),),
    (CONFIG, replace(CONFIG, path="training_run/logs/train_log.jsonl", state=FileState.GROWING)),
    (
        LeftOut("gpu-a", "run_1/training_state/step_20", "rule: checkpoint = final", 886_000_000, 9),
        LeftOut("gpu-a", "run_1/wandb", "rule: excluded"),
    ),
    (MadeLink("a", "b"), MadeLink("training_run/training_state/step_latest", "step_final")),
    ("baseline_training_2025-08-20_unknown_h100_64steps",),
)


def test_it_comes_back_as_it_was_written(tmp_path: Path) -> None:
    """Every field survives the way through the file."""
    with DataRoot.open(tmp_path) as root:
        assert read_manifest(root, DIRECTORY) is None
        write_manifest(root, DIRECTORY, MANIFEST)
        assert read_manifest(root, DIRECTORY) == MANIFEST


def test_the_text_is_stable_and_readable() -> None:
    """Equal entries in any order give the same ASCII text, with times that people can read."""
    shuffled = replace(
        MANIFEST, files=MANIFEST.files[::-1], left_out=MANIFEST.left_out[::-1], links=MANIFEST.links[::-1]
    )
    assert to_json(shuffled) == to_json(MANIFEST)
    assert to_json(MANIFEST).isascii()
    content = json.loads(to_json(MANIFEST))
    assert content["format"] == 1
    assert content["files"][0]["mtime"] == "2025-08-20T03:31:43.123456789Z"
    assert content["files"][0]["mtime_ns"] == 1_755_660_703_123_456_789
    assert content["files"][0]["fetched_at"] == "2025-08-20T03:40:00.000Z"
    assert content["left_out"][1] == {
        "host": "gpu-a", "path": "run_1/wandb", "size": None, "entries": None, "reason": "rule: excluded"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["},\n      {", '"}, {', "\n    }\n", "\u2028"])
def test_the_text_is_indented_as_json_does_it(name: str) -> None:
    """Whatever names hold, each value has a line of its own, as for everybody who reads or writes it with a tool."""
    hostile = replace(MANIFEST, left_out=(LeftOut(name, name, name), *MANIFEST.left_out), aliases=(name, name))
    for manifest in (hostile, Manifest(MANIFEST.experiment), Manifest(Experiment(name, name))):
        text = to_json(manifest)
        assert text == json.dumps(json.loads(text), indent=2).encode() + b"\n"


def test_names_that_are_not_utf8_survive() -> None:
    """Lone surrogates, newlines and escapes in names come back as they were."""
    odd = "a\udcff\n\x1b[2J\u202e\U0001f600"
    manifest = Manifest(
        MANIFEST.experiment, (), (replace(CONFIG, path=odd, remote_path=odd),), (LeftOut("h", odd, "rule"),), (), (odd,)
    )
    assert from_json(to_json(manifest)) == manifest


@pytest.mark.parametrize("mtime", [-1, 2**63, -(2**63), 0])
def test_any_time_that_a_box_sends_survives(mtime: int) -> None:
    """A time outside the calendar is kept as the number and has no text."""
    manifest = Manifest(MANIFEST.experiment, (), (replace(CONFIG, mtime_ns=mtime),))
    assert from_json(to_json(manifest)).files[0].mtime_ns == mtime


def test_a_time_is_kept_in_utc() -> None:
    """A time with another zone is the same moment when it is read; one without a zone is refused."""
    local = datetime(2025, 8, 20, 5, 40, tzinfo=timezone(timedelta(hours=2)))
    manifest = Manifest(MANIFEST.experiment, (), (replace(CONFIG, fetched_at=local),))
    assert b"2025-08-20T03:40:00.000Z" in to_json(manifest)
    assert from_json(to_json(manifest)).files[0].fetched_at == local
    with pytest.raises(ValueError, match="zone"):
        replace(CONFIG, fetched_at=datetime(2025, 8, 20))  # noqa: DTZ001  (the very thing that is refused)


@pytest.mark.parametrize("path", ["../x", "/etc/passwd", "a//b", "", "a/../../b"])
def test_a_path_that_leads_out_is_refused(path: str) -> None:
    """A file's path is one below the experiment when it is read, and where it is made a place."""
    with pytest.raises(RejectedPath):
        replace(CONFIG, path=path).below(LocalPath(("experiment",)))
    content = to_json(MANIFEST).replace(b"training_run/config.yaml", path.encode())
    with pytest.raises(Damaged, match=r"files\[0\]"):
        from_json(content)


def test_a_files_place_in_the_data_root() -> None:
    """An entry knows its place for an experiment's directory."""
    assert CONFIG.below(DIRECTORY) == DIRECTORY / "training_run" / "config.yaml"


BREAKS: list[tuple[str, Callable[[dict[str, Any]], object]]] = [
    ("format is not a whole number", lambda top: top.pop("format")),
    ("experiment is not an object", lambda top: top.update(experiment=[])),
    ("files is not a list", lambda top: top.pop("files")),
    (r"files\[0\]: size is not a whole number", lambda top: top["files"][0].update(size="3")),
    (r"files\[0\]: size is not a whole number", lambda top: top["files"][0].update(size=True)),
    (r"files\[0\]: .*'unsure'", lambda top: top["files"][0].update(state="unsure")),
    (r"files\[0\]: .*soon", lambda top: top["files"][0].update(fetched_at="soon")),
    (r"files\[0\]: .*zone", lambda top: top["files"][0].update(fetched_at="2025-08-20T03:40:00")),
    (r"runs\[0\] is not an object", lambda top: top.update(runs=["run"])),
    (r"left_out\[0\]: entries is not a whole number", lambda top: top["left_out"][0].update(entries="many")),
    ("aliases is not a list of texts", lambda top: top.update(aliases=[1])),
    ("name: date is not an object", lambda top: top["experiment"]["name"].update(date="2025")),
]


@pytest.mark.parametrize(("complaint", "breaking"), BREAKS)
def test_what_is_wrong_is_named(complaint: str, breaking: Callable[[dict[str, Any]], object]) -> None:
    """A value of the wrong kind is told with its place."""
    top = json.loads(to_json(MANIFEST))
    breaking(top)
    with pytest.raises(Damaged, match=complaint):
        from_json(json.dumps(top).encode())


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 200_000, b'{"format": 1}'])
def test_a_text_that_is_no_manifest_is_damaged(tmp_path: Path, content: bytes) -> None:
    """Garbage at the manifest's place is told, with the place, and left there."""
    with DataRoot.open(tmp_path) as root:
        write_manifest(root, DIRECTORY, MANIFEST)
        place = tmp_path / DIRECTORY.name / "manifest.json"
        place.write_bytes(content)
        with pytest.raises(Damaged, match=DIRECTORY.name):
            read_manifest(root, DIRECTORY)
        assert place.read_bytes() == content


def test_a_newer_format_is_not_guessed_at() -> None:
    """A manifest of a newer harvestd stops an older one."""
    with pytest.raises(Fatal, match="format 2"):
        from_json(to_json(MANIFEST).replace(b'"format": 1', b'"format": 2'))


def test_a_field_that_is_not_known_is_let_pass() -> None:
    """A field that a later harvestd adds under the same number does not stop this one."""
    top = json.loads(to_json(MANIFEST))
    top["files"][0]["colour"] = "blue"
    assert from_json(json.dumps(top).encode()) == MANIFEST
