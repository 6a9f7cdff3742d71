"""Read the launcher's job files, `{job_id}.json`, as untrusted input, and add two keys.

Any key may be missing, and a value of an unexpected form counts as missing. A file is read only if it is a regular one
of a bounded size, and only under the name of a valid job id, so that no id is ever a path. It is replaced as a whole:
all its other keys are kept, in their order. Every function here blocks.
"""

import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime
from heapq import nlargest
from pathlib import Path

from harvestd.convention.kinds import run_name
from harvestd.convention.structs import Immutable
from harvestd.errors import ExitCode, Fatal
from harvestd.telemetry.sanitize import escaped


class SyncFailed(Fatal):
    """Not all results of a job are here; `exit_code` identifies the reason.

    UNKNOWN_NAME: no such job, or a file that can't be used. NO_HOST: its host does not answer, or is unknown. PARTIAL:
    something is still missing. DISK_FULL: no space. LOCKED: another harvestd holds the data root, and has not fetched
    the results so far. CONFIGURATION: the request or the configuration is invalid.
    """


FINISHED = "FINISHED"
"""The status of a job whose evals have ended."""
RUNNING = "RUNNING"
"""The status of a job that may still write results."""
LONGEST = 256 * 1024
"""Bytes of a job file; the launcher writes less than one kilobyte."""
MOST = 5_000
"""Job files of one directory that are read: the newest."""
_ID = re.compile(r"eval_[0-9]{8}_[0-9]{6}_[0-9a-f]{8}")
_SYNCED_AT, _LOCAL = "synced_at", "local_results_dir"

Stamp = tuple[int, int, int]
"""Identifies a file's version: inode, size, time."""


class Job(Immutable):
    """The content of a job file; None: missing or unusable."""

    id: str
    address: str | None = None
    """The address of its host when the host was launched."""
    run: str | None = None
    """The directory name of its training run."""
    dataset: str | None = None
    """The dataset of the eval."""
    steps: tuple[int, ...] = ()
    """The steps that were requested by number; empty: the existing ones."""
    status: str | None = None
    synced_at: str | None = None
    local_results_dir: str | None = None

    @property
    def is_due(self) -> bool:
        """Whether it has finished and its results were never recorded as synced."""
        return self.status == FINISHED and self.synced_at is None


def is_job_id(text: str) -> bool:
    """Return whether this is an id of the launcher's form, `eval_{YYYYmmdd_HHMMSS}_{8 hex}`."""
    return _ID.fullmatch(text) is not None


def read_job(directory: Path, job_id: str) -> Job:
    """Return a job; raise `SyncFailed` (4) where there is none of this id, or where its file can't be used."""
    return _job(job_id, _read(directory, job_id))


def stamps(directory: Path) -> dict[str, Stamp]:
    """Return the ids of the newest jobs with their files' versions; none where there is no directory yet.

    Raise `SyncFailed` where the directory can't be read.
    """
    try:
        found = nlargest(MOST, _ids(directory))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except OSError as error:
        raise _unusable(directory, error.strerror or "can't be read") from error
    stamped: dict[str, Stamp] = {}
    for job_id in found:
        try:
            status = _file(directory, job_id).lstat()
        except OSError:  # removed meanwhile
            continue
        stamped[job_id] = (status.st_ino, status.st_size, status.st_mtime_ns)
    return stamped


def mark_synced(directory: Path, job_id: str, local_results_dir: str) -> Job:
    """Record in a job file that its results are here, and where; return the job as it is then.

    A crash leaves the old or the new file. Raise `SyncFailed` where the file can't be read or written any more.
    """
    document = _read(directory, job_id)
    document[_SYNCED_AT] = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
    document[_LOCAL] = local_results_dir
    file = _file(directory, job_id)
    # Without the suffix `.json`: a listing of the jobs does not contain it.
    beside = directory / f".{job_id}.{os.getpid()}.part"
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
        beside.unlink(missing_ok=True)
        with beside.open("x", encoding="ascii") as out:
            os.fchmod(out.fileno(), mode)
            out.write(json.dumps(document, indent=2) + "\n")
            out.flush()
            os.fsync(out.fileno())
        beside.replace(file)
    except OSError as error:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
        raise _unusable(file, f"can't be written: {error.strerror}") from error
    return _job(job_id, document)


def _ids(directory: Path) -> Iterator[str]:
    return (path.stem for path in directory.iterdir() if path.suffix == ".json" and is_job_id(path.stem))


def _file(directory: Path, job_id: str) -> Path:
    if not is_job_id(job_id):
        raise SyncFailed(
            f"{escaped(job_id[:100])} is no job id",
            hint="they look like eval_20250820_031500_0123abcd",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    return directory / f"{job_id}.json"


def _read(directory: Path, job_id: str) -> dict[str, object]:
    file = _file(directory, job_id)
    try:
        # Checked before it is opened: opening a FIFO would block.
        if not stat.S_ISREG(file.lstat().st_mode):
            raise _unusable(file, "is no regular file")
        with file.open("rb") as data:
            raw = data.read(LONGEST + 1)
    except FileNotFoundError:
        raise SyncFailed(
            f"there is no job {job_id}", hint=f"looked in {directory}", exit_code=ExitCode.UNKNOWN_NAME
        ) from None
    except OSError as error:
        raise _unusable(file, error.strerror or "can't be read") from error
    if len(raw) > LONGEST:
        raise _unusable(file, f"is larger than {LONGEST} bytes")
    try:
        document = json.loads(raw)
    except (ValueError, RecursionError) as error:
        raise _unusable(file, "is no valid JSON") from error
    if not isinstance(document, dict):
        raise _unusable(file, "holds no JSON object")
    return document


def _unusable(path: Path, why: str) -> SyncFailed:
    return SyncFailed(f"{escaped(str(path))}: {why}", exit_code=ExitCode.UNKNOWN_NAME)


def _job(job_id: str, document: dict[str, object]) -> Job:
    fields = {key: value for key, value in document.items() if isinstance(value, str) and value}
    run = fields.get("training_run", "").rstrip("/").rpartition("/")[2]
    return Job(
        id=job_id,
        address=fields.get("lambda_ip"),
        run=run if run_name(run) else None,
        dataset=fields.get("eval_dataset"),
        steps=_steps(document.get("steps")),
        status=fields.get("status"),
        synced_at=fields.get(_SYNCED_AT),
        local_results_dir=fields.get(_LOCAL),
    )


def _steps(value: object) -> tuple[int, ...]:
    """Return the steps of `[10, 20]`, `10` or `"10,20"`; none for anything else, such as "all"."""
    each = value if isinstance(value, list) else str(value).split(",")
    return tuple(sorted({int(step) for step in map(str, each) if re.fullmatch(r"\s*[0-9]{1,9}\s*", step)}))
