"""What lies on a made-up box: training runs, evals of small files, and checkpoints of any size.

Names and forms are those of the convention; the times of all files lie in the past, as on a box that was watched late.
"""

import json
import os
import shutil
import struct
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

LEAVES_PER_RUN = 200
_HOUR = 3600
_BLOCK = 16 * 1024 * 1024
_SETTLED = 12.0
"""Seconds: what has no marker has to stay unchanged for ten, as harvestd comes; its looks are that much apart."""
_METRICS = b"q_idx,tag_ok_ave,pass_rate\n" + b"0,1.0,0.375\n" * 120
_DECODING = {"temperature": 0.7, "top_p": 1.0, "num_return_sequences": 8}
_STARTED = datetime(2025, 8, 20, 3, 0, tzinfo=UTC)
_LEAF = "temp0.7_p1.0_r8"
_FINETUNED = "qwen2_5_15_gsm8k_finetuned"
_NAMES = frozenset({"config.yaml", "metrics.csv", "run_meta.json", "adapter_model.safetensors", "training_info.json"})
"""All that these trees consist of; at home there is more."""


@dataclass(frozen=True, slots=True)
class Content:
    """How much there is of what these trees consist of."""

    files: int
    size: int


def run_name(number: int) -> str:
    """Return the directory's name of the run with this number; every box and every run may have one of its own."""
    return f"run_{_STARTED + timedelta(seconds=number):%Y-%m-%d_%H-%M-%S}"


def leaf(run: int, step: int, dataset: str = "gsm8k") -> Path:
    """Return the path of one eval below a root's eval_runs."""
    return Path(f"{run_name(run)}_{dataset}", _FINETUNED, f"step_{step}_{dataset}", _LEAF)


def write_run(root: Path, run: int) -> None:
    """Write a training run that has begun."""
    text = (
        "backbone: Qwen/Qwen2.5-1.5B\neval_backbone: qwen2_5_15\ntotal_steps: 64\n"
        f"scheduler:\n  dataset_name: gsm8k\nexperiment: {run}\n"
    )
    _write(root / "training_runs" / run_name(run) / "config.yaml", text.encode())


def write_leaf(directory: Path, number: int, *, age: float = _HOUR) -> float:
    """Write one eval, its marker last: two files of 1 to 2 KB, `age` seconds old; gives when (time.monotonic())."""
    _write(directory / "metrics.csv", _METRICS + b"%d\n" % number, age)
    meta = json.dumps({"step": number, "subset_frac": 1.0, "batch_size": 54, "decoding_cfg": _DECODING})
    return _write(directory / "run_meta.json", meta.encode() + b" " * 900, age)


def log_of(root: Path, run: int) -> Path:
    """Return the path of a run's log."""
    return root / "training_runs" / run_name(run) / "logs" / "train_log.jsonl"


def log_line(step: int) -> bytes:
    """Return one line of a run's log."""
    figures = {"step": step, "epoch": 0, "loss": 1.25, "reward": 0.375, "lr": 1e-5, "grad_norm": 0.5, "tokens": 8192}
    return json.dumps(figures).encode() + b"\n"


def write_evals(root: Path, leaves: int, *, first_run: int = 0) -> None:
    """Write runs and their evals, `leaves` in all: twice as many files, and a config.yaml a run."""
    for number in range(leaves):
        run, step = divmod(number, LEAVES_PER_RUN)
        if step == 0:
            write_run(root, first_run + run)
        write_leaf(root / "eval_runs" / leaf(first_run + run, step + 1), number)


def write_checkpoint(root: Path, run: int, size: int) -> Path:
    """Write a finished run's final checkpoint with one adapter of about `size` bytes; gives the adapter's path."""
    checkpoint = root / "training_runs" / run_name(run) / "training_state" / "step_final"
    adapter = checkpoint / "model" / "adapter_model.safetensors"
    header = json.dumps({"w": {"dtype": "U8", "shape": [size], "data_offsets": [0, size]}}).encode()
    header += b" " * (-len(header) % 8)
    adapter.parent.mkdir(parents=True)
    # Random, so that no compression shortens it; repeated, because making it costs more than writing it.
    block = os.urandom(min(size, _BLOCK))
    with adapter.open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        for start in range(0, size, len(block)):
            file.write(block[: size - start])
        file.flush()
        _age(file.fileno(), _HOUR)
    info = {"step": 64, "global_step": 64, "epoch": 0, "model_config": {"backbone": "Qwen/Qwen2.5-1.5B"}}
    _write(checkpoint / "training_info.json", json.dumps(info).encode())
    return adapter


def content(top: Path) -> Content:
    """Count what is below a root, or at home."""
    sizes = [entry.stat(follow_symlinks=False).st_size for entry in _files(top) if entry.name in _NAMES]
    return Content(len(sizes), sum(sizes))


def wait_until_settled() -> None:
    """Wait until what was written up to now has been left alone for long enough."""
    time.sleep(_SETTLED)


def remove(top: Path) -> None:
    """Remove a directory with everything in it; nothing where it is not there."""
    if top.exists():
        shutil.rmtree(top)


def _files(top: Path) -> Iterator[os.DirEntry[str]]:
    with os.scandir(top) as entries:
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if entry.name != ".harvestd":
                    yield from _files(Path(entry.path))
            else:
                yield entry


def _write(path: Path, data: bytes, age: float = _HOUR) -> float:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.write(data)
        file.flush()
        # Before it is closed: that is the moment from which all is measured.
        _age(file.fileno(), age)
    return time.monotonic()


def _age(file: int, age: float) -> None:
    then = time.time() - age
    os.utime(file, (then, then))
