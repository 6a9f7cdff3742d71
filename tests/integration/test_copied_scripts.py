"""The real scripts in real passes: the pictures that the daemon leaves are those that the copied scripts draw."""

import shutil
from pathlib import Path

import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, base_evals, evals_of_run
from support.analysed import PICTURES, png_size, require_matplotlib, run_script
from support.house import Workstation

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=30, adapter_bytes=1024)
EVAL = EvalSpec(RUN, questions=20)


async def test_copied_scripts_draw_what_the_daemon_drew(workstation: Workstation, tmp_path: Path) -> None:
    """A pass leaves four pictures; a copied script, away with the experiment, finds nothing to change."""
    require_matplotlib()
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(RUN.total_steps)
    writer.finish()
    evals = evals_of_run(box.root, EVAL)
    evals.write_config()
    evals.evaluate(10)
    base_evals(box.root, EVAL).evaluate("base_full")
    await workstation.once(report={"pictures": True})
    home = workstation.experiment(RUN.name)
    assert home is not None
    assert {path.name for path in home.glob("analysis/*.png")} == set(PICTURES.values())
    assert workstation.findings() == []
    away = tmp_path / "away" / home.name
    shutil.copytree(home, away, symlinks=True)
    for picture in PICTURES.values():
        png_size(away / "analysis" / picture)
    output = await anyio.to_thread.run_sync(run_script, away / "analysis" / "complete_pass_plot.py")
    assert "  base  " in output
    assert output.endswith(f"{away / 'analysis' / PICTURES['complete_pass_plot']} is as it was.\n")
