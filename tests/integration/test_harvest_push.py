"""A box that tells of changes by itself: what happens there is at home long before the next look is due."""

from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from support.house import Workstation
from support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
SELDOM = {"interval": "1h"}
"""Looks that come too late for any deadline here."""


def write_run(root: Path) -> RunWriter:
    """Write a run of three steps that goes on."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(3)
    return writer


async def test_what_is_written_comes_home_without_a_look(workstation: Workstation) -> None:
    """A run, its evals and what is appended to its log come home as they are written."""
    box = workstation.add_box()
    workstation.settings(poll=SELDOM)
    with workstation.program() as daemon:
        await until(lambda: bool(workstation.catalogue("SELECT 1 FROM hosts WHERE last_success IS NOT NULL")))
        writer = write_run(box.root)
        await until(workstation.follows(writer))
        evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
        evals.write_config()
        for step in (1, 2, 3):
            evals.evaluate(step)
            place = (evals.leaf(step) / "run_meta.json").relative_to(box.root / "eval_runs")
            await until((workstation.training(RUN.name).with_name("eval_results") / place).exists)
        writer.log_until(6)
        await until(workstation.follows(writer))
        daemon.terminate()
        await until(lambda: daemon.poll() is not None)
    workstation.audit()


async def test_a_directory_that_is_moved_in_comes_home(workstation: Workstation) -> None:
    """Evals that appear at once, moved in from elsewhere on the box, are seen with all that is in them."""
    box = workstation.add_box()
    write_run(box.root)
    evals = evals_of_run(box.root / "elsewhere", EvalSpec(RUN, questions=5))
    evals.write_config()
    for step in range(1, 30):
        evals.evaluate(step)
    made = evals.leaf(1).relative_to(box.root / "elsewhere/eval_runs")
    (box.root / "eval_runs").mkdir()
    workstation.settings(poll=SELDOM)
    with workstation.program() as daemon:
        await until(workstation.stands(RUN.name, "config.yaml"))
        (box.root / "elsewhere/eval_runs" / made.parts[0]).rename(box.root / "eval_runs" / made.parts[0])
        leaves = workstation.training(RUN.name).with_name("eval_results")
        await until(lambda: len(list(leaves.rglob("run_meta.json"))) == 29)
        daemon.terminate()
        await until(lambda: daemon.poll() is not None)
    workstation.audit()
