"""Experiments as they lie at home, laid out by hand, with the analysis scripts in them, which run without harvestd."""

import json
import os
import shutil
import struct
import subprocess
import sys
from collections.abc import Sequence
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

from harvestd.convention.kinds import Kind
from harvestd.convention.metadata.naming import ExperimentName, Part
from harvestd.convention.paths import LocalPath
from harvestd.convention.scan.snapshot import Version
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec, Step
from harvestd.demo.writers import BatchEvalWriter, RunWriter, base_evals, evals_of_run
from harvestd.planning.records import ExperimentRecord, FileRecord
from harvestd.report import analysis, small_files
from harvestd.report.scripts.experiment import CONFIGURED
from harvestd.report.small_files import Known
from harvestd.store.root import DataRoot

SCRIPTS = analysis.scripts()
"""What is copied beside an experiment, by name."""
PICTURES = {
    "complete_pass_plot": "complete_gns_training_progress.png",
    "detailed_passk_analysis": "detailed_passk_progress.png",
    "training_analysis": "training_progress.png",
    "entropy_probe_analysis": "entropy_probe.png",
}
_DEADLINE = 60
"""Seconds; the first script on a new machine makes matplotlib's list of fonts."""


def require_matplotlib() -> None:
    """Without matplotlib skip the calling test, or fail it where CI is set: there nothing may be skipped."""
    if find_spec("matplotlib") is None:
        reason = "this test needs matplotlib, and it is not here: make install"
        if os.environ.get("CI"):
            pytest.fail(reason)
        pytest.skip(reason)


KINDS = {"metrics.csv": Kind.METRICS, "run_meta.json": Kind.RUN_META, "train_log.jsonl": Kind.TRAIN_LOG}


class Size(NamedTuple):
    """A picture's size in dots."""

    width: int
    height: int


class Analysed:
    """One experiment below `home`; a box's tree is written beside it and copied as the convention files it."""

    def __init__(self, home: Path, name: str = "gns_test_2025-08-20_qwen2_5_1_5b_h100_64steps") -> None:
        self.directory = home / name
        self._box = home / "box"
        self.analysis = self.directory / "analysis"
        self.analysis.mkdir(parents=True)
        for script, content in SCRIPTS.items():
            (self.analysis / script).write_bytes(content)

    def train(self, run: RunSpec, until: int, *, finished: bool = False) -> None:
        """File a training run that has logged `until`."""
        writer = RunWriter(self._box, run)
        writer.start()
        writer.log_until(until)
        if finished:
            writer.finish()
        shutil.copytree(writer.directory, self.directory / "training_run", symlinks=True)

    def evaluate(self, spec: EvalSpec, steps: Sequence[Step]) -> Path:
        """File evals of the run's steps; gives their directory."""
        writer = evals_of_run(self._box, spec)
        writer.write_config()
        for step in steps:
            writer.evaluate(step)
        return self._filed(writer.directory)

    def evaluate_batch(self, spec: EvalSpec, steps: Sequence[Step]) -> Path:
        """File a batch eval of the run's steps; gives its directory."""
        writer = BatchEvalWriter(self._box, spec)
        writer.start(tuple(steps))
        for step in steps:
            writer.evaluate(step)
        writer.finish()
        return self._filed(writer.directory)

    def evaluate_base(self, spec: EvalSpec, *, on_record: bool = True) -> None:
        """File an eval of the base model, with its source in manifest.json where it is `on_record`."""
        writer = base_evals(self._box, spec)
        writer.evaluate("base_full")
        there = writer.leaf("base_full")
        shutil.copytree(there, self.directory / "base_eval" / there.name)
        if on_record:
            remote = (there / "metrics.csv").relative_to(self._box).as_posix()
            files = [{"path": f"base_eval/{there.name}/metrics.csv", "remote_path": remote}]
            (self.directory / "manifest.json").write_text(json.dumps({"files": files}))

    def _filed(self, there: Path) -> Path:
        home = self.directory / "eval_results" / there.name
        shutil.copytree(there, home, dirs_exist_ok=True)
        return home

    def known(self) -> Known:
        """Return what would be on record of the files that lie here."""
        manifest = self.directory / "manifest.json"
        files = json.loads(manifest.read_text())["files"] if manifest.exists() else []
        remote = {str(each["path"]): str(each["remote_path"]) for each in files}
        records = []
        for path in sorted(each for each in self.directory.rglob("*") if each.is_file()):
            rest = path.relative_to(self.directory).as_posix()
            content = path.read_bytes()
            target = LocalPath((self.directory.name, *rest.split("/")))
            kind = KINDS.get(path.name, Kind.EVAL_CONFIG)
            place = remote.get(rest, f"/box/{rest}")
            version, size, digest = Version(1, 1), len(content), sha256(content).hexdigest()
            records.append(FileRecord("fs-1", place, target, "gpu-a", "e1", kind, version, size, digest, 1.0, ""))
        name = ExperimentName(*(Part("e", "") for _ in range(5)))
        return Known(ExperimentRecord("e1", name, moved_to=self.directory.name), files=tuple(records))

    def configure(self) -> None:
        """Write configured.json as harvestd does."""
        with DataRoot.open(self.directory.parent) as root:
            output = small_files.configured_json(small_files.Configurations().of(root, self.known()))
        self.directory.joinpath(*CONFIGURED).write_bytes(output)

    def run(self, script: str, *arguments: str, isolated: bool = False) -> str:
        """Run a script that stands here, as `run_script` does."""
        self.configure()
        return run_script(self.analysis / f"{script}.py", *arguments, isolated=isolated)

    def picture(self, script: str) -> Path:
        """Return where a script puts its picture."""
        return self.analysis / PICTURES[script]


def run_script(path: Path, *arguments: str, isolated: bool = False) -> str:
    """Run a script from another directory, in surroundings that know nothing of harvestd; gives its words.

    Raises CalledProcessError where it fails, or warns.
    """
    command = [sys.executable, *(["-I"] if isolated else []), "-W", "error", str(path), *arguments]
    done = subprocess.run(
        command,
        env={"PATH": os.defpath, "HOME": os.environ.get("HOME", "/")},
        cwd="/",
        capture_output=True,
        text=True,
        encoding="utf-8",
        check=True,
        timeout=_DEADLINE,
    )
    assert done.stderr == ""
    return done.stdout


def png_size(path: Path) -> Size:
    """Return a whole PNG's size; raises AssertionError for anything else."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    assert data.endswith(b"IEND\xaeB`\x82")
    return Size(*struct.unpack(">II", data[16:24]))
