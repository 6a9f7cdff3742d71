"""The launcher's job files: what is taken from them, what is refused, and what is written back."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.errors import ExitCode
from harvestd.lambda_eval.job_files import LONGEST, SyncFailed, is_job_id, mark_synced, read_job, stamps
from support.command import environment
from support.jobs import JOB, read_document, write_job

RUN = RunSpec()


@pytest.mark.parametrize(
    ("text", "valid"),
    [
        (JOB, True),
        (JOB.upper(), False),
        (f"{JOB}\n", False),
        (f"../{JOB}", False),
        ("eval_20250820_120000_0123abc", False),
        ("eval_٢0250820_120000_0123abcd", False),
    ],
)
def test_ids(text: str, *, valid: bool) -> None:
    """An id is exactly what the launcher makes."""
    assert is_job_id(text) is valid


def test_missing_keys_and_other_forms_are_normal(tmp_path: Path) -> None:
    """A key that is missing, null or of another kind is as if it were not there."""
    write_job(tmp_path, RUN, lambda_ip=None, status=3, eval_dataset=["x"], training_run={"a": 1}, synced_at="")
    job = read_job(tmp_path, JOB)
    assert (job.address, job.status, job.dataset, job.run, job.synced_at) == (None, None, None, None, None)
    assert not job.is_due
    (tmp_path / f"{JOB}.json").write_text("{}")
    assert read_job(tmp_path, JOB).id == JOB


@pytest.mark.parametrize(
    ("given", "run"),
    [
        (RUN.name, RUN.name),
        (f"/lambda/nfs/localfs/training_runs/{RUN.name}/", RUN.name),
        (f"{RUN.name}_copy", f"{RUN.name}_copy"),
        ("../../etc", None),
        ("step_40", None),
    ],
)
def test_run_is_a_name_alone(tmp_path: Path, given: str, run: str | None) -> None:
    """A path counts by its last component, and what is no run's name for nothing."""
    write_job(tmp_path, RUN, training_run=given)
    assert read_job(tmp_path, JOB).run == run


@pytest.mark.parametrize(
    ("given", "steps"),
    [
        ("all", ()),
        (None, ()),
        ([20, 10, "10"], (10, 20)),
        ("10, 20", (10, 20)),
        (40, (40,)),
        (["final", -1, 2.5, True, "9" * 5000], ()),
        ({"a": 1}, ()),
    ],
)
def test_steps(tmp_path: Path, given: object, steps: tuple[int, ...]) -> None:
    """Steps by number are taken in any form the launcher has for them."""
    write_job(tmp_path, RUN, steps=given)
    assert read_job(tmp_path, JOB).steps == steps


@pytest.mark.parametrize("kind", ["fifo", "link", "directory"])
def test_what_is_no_plain_file_is_never_opened(tmp_path: Path, kind: str) -> None:
    """A FIFO is not waited for, a link not followed, and neither is a directory a job."""
    file = tmp_path / f"{JOB}.json"
    if kind == "fifo":
        os.mkfifo(file)
    elif kind == "link":
        (tmp_path / "secret").write_text("{}")
        file.symlink_to(tmp_path / "secret")
    else:
        file.mkdir()
    with pytest.raises(SyncFailed, match="is no regular file") as caught:
        read_job(tmp_path, JOB)
    assert caught.value.exit_code == ExitCode.UNKNOWN_NAME
    with pytest.raises(SyncFailed, match="is no regular file"):
        mark_synced(tmp_path, JOB, "here")


def test_size_is_bounded(tmp_path: Path) -> None:
    """A file of the largest size is read, one byte more is refused."""
    file = tmp_path / f"{JOB}.json"
    file.write_bytes(b"{}".ljust(LONGEST))
    assert read_job(tmp_path, JOB).id == JOB
    file.write_bytes(b"{}".ljust(LONGEST + 1))
    with pytest.raises(SyncFailed, match="larger than"):
        read_job(tmp_path, JOB)


def test_listing_sees_jobs_alone(tmp_path: Path) -> None:
    """Other files are no jobs, and a directory that does not exist has none."""
    assert stamps(tmp_path / "none") == {}
    write_job(tmp_path, RUN)
    for name in ("notes.json", f"{JOB}.json.part", f".{JOB}.7.part", "eval_x.json"):
        (tmp_path / name).touch()
    before = stamps(tmp_path)
    assert list(before) == [JOB]
    write_job(tmp_path, RUN, status="RUNNING")
    assert stamps(tmp_path) != before


def test_writing_back_again_changes_the_two_keys_in_their_places(tmp_path: Path) -> None:
    """A second sync says so anew, and no key moves; what a crash left beside is taken away."""
    file = write_job(tmp_path, RUN, synced_at="2020-01-01T00:00:00Z", local_results_dir="/old", after={"x": [1, None]})
    (tmp_path / f".{JOB}.{os.getpid()}.part").write_text("half")
    before = read_document(file)
    job = mark_synced(tmp_path, JOB, "/new")
    after = read_document(file)
    assert list(after) == list(before)
    assert (after["local_results_dir"], after["synced_at"]) == ("/new", job.synced_at)
    assert str(after["synced_at"]) > "2025"
    assert list(tmp_path.iterdir()) == [file]


def test_directory_that_can_not_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What stands in the way of writing is an error that says so, and the file is as before."""
    file = write_job(tmp_path, RUN)
    content = file.read_bytes()

    def refuse(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(SyncFailed, match="No space left"):
        mark_synced(tmp_path, JOB, "/new")
    assert file.read_bytes() == content
    assert list(tmp_path.iterdir()) == [file]


def test_program_that_calls_us_keeps_its_own_logs(tmp_path: Path) -> None:
    """The manager speaks through `logging`, in a line that is safe to look at, and leaves the program's handlers."""
    script = (
        "import logging, sys\n"
        "logging.basicConfig(level='INFO', stream=sys.stdout, format='%(name)s %(levelname)s %(message)s')\n"
        "before = list(logging.getLogger().handlers)\n"
        "from harvestd.lambda_eval import LambdaEvaluationManager\n"
        f"print(LambdaEvaluationManager(jobs_dir={str(tmp_path)!r}).sync_results('x\\x1b[2J'))\n"
        "print(logging.getLogger().handlers == before)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env=environment(HOME=str(tmp_path)),
        cwd=tmp_path,
        timeout=30,
    )
    told, answer, kept = done.stdout.splitlines()
    assert told.startswith("harvestd ERROR ")
    assert "job.failed" in told
    assert "is no job id" in told
    assert "\x1b" not in told
    assert (answer, kept, done.stderr) == ("False", "True", "")
    assert list(tmp_path.iterdir()) == []
