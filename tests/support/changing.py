"""A small run with an eval, to be changed on the box or here, and where it stands at home."""

from pathlib import Path

from harvestd.convention.paths import LocalPath
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import EvalWriter, RunWriter, evals_of_run
from harvestd.store.root import DataRoot
from harvestd.store.versions import list_versions, read_version
from support.house import Workstation

RUN = RunSpec()


def write_run(root: Path, run: RunSpec = RUN) -> RunWriter:
    """Write a run of three steps that goes on."""
    writer = RunWriter(root, run)
    writer.start()
    writer.log_until(3)
    return writer


def write_eval(root: Path, step: int = 2) -> EvalWriter:
    """Write one sealed leaf of the run."""
    evals = evals_of_run(root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate(step)
    return evals


def at_home(workstation: Workstation, remote: Path) -> Path:
    """Return the place at home of a file of the run or of one of its evals."""
    root = workstation.boxes["gpu-a"].root
    if remote.is_relative_to(root / "eval_runs"):
        return workstation.training(RUN.name).with_name("eval_results") / remote.relative_to(root / "eval_runs")
    return workstation.training(RUN.name) / remote.relative_to(root / "training_runs" / RUN.name)


def kept(workstation: Workstation, here: Path) -> list[bytes]:
    """Return the kept versions of a file at home, oldest first."""
    path = LocalPath(here.relative_to(workstation.data).parts)
    with DataRoot.open(workstation.data) as root:
        return [read_version(root, path, version.stamp) for version in list_versions(root, path)]
