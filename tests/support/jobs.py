"""Job files as the launcher of remote evals writes them."""

import json
from pathlib import Path

from harvestd.demo.content import RunSpec

JOB = "eval_20250820_120000_0123abcd"


def write_job(directory: Path, run: RunSpec, job_id: str = JOB, **keys: object) -> Path:
    """Write the file of a finished job that evaluated `run` on this machine; `keys` go over what it says."""
    document: dict[str, object] = {
        "job_id": job_id,
        "created_at": "2025-08-20T12:00:00",
        "lambda_ip": "127.0.0.1",
        "training_run": run.name,
        "profile": "full_evaluation",
        "eval_dataset": "gsm8k_r1_template",
        "steps": "all",
        "status": "FINISHED",
        "remote_log_file": f"/home/ubuntu/{job_id}.log",
        "submitted_at": "2025-08-20T12:00:05",
    }
    directory.mkdir(parents=True, exist_ok=True)
    file = directory / f"{job_id}.json"
    beside = directory / f"{job_id}.new"
    beside.write_text(json.dumps(document | keys, indent=2))
    beside.rename(file)
    return file


def read_document(file: Path) -> dict[str, object]:
    """Return what a job file says."""
    document: dict[str, object] = json.loads(file.read_text())
    return document
