"""Draw what the training itself logged: training_progress.png.

Call it as `python analysis/training_analysis.py`; it needs matplotlib alone. Steps without a value, NaN among them,
have no point.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

sys.dont_write_bytecode = True  # only pictures are left beside the scripts
sys.path.insert(0, str(Path(__file__).resolve().parent))  # which an isolated Python leaves out

# First, since it says so where matplotlib is missing.
from harvestd.report.scripts.drawing import NothingToDrawError, main, sheet

# isort: split
from matplotlib.figure import Figure

from harvestd.report.scripts.experiment import Experiment
from harvestd.report.scripts.panels import COLOURS, Panel, averages_notes, grid, summary

PICTURE = "training_progress.png"
_PANELS = (
    Panel("Mean reward", ("r_mean",), colour=COLOURS[0]),
    Panel("Share of right tags", ("tag_correct",), colour=COLOURS[2]),
    Panel("Loss", ("loss",), colour=COLOURS[1]),
    Panel("Entropy of the policy", ("entropy",), colour=COLOURS[3]),
    Panel("KL divergence", ("kl",), colour=COLOURS[4]),
    Panel("Length of thinking", ("think_len",), colour=COLOURS[5]),
    Panel("Policy ratio", ("ratio_p99", "ratio_p90", "ratio_median"), colour=COLOURS[0]),
    Panel("Share of clipped ratios", ("ratio_clip_frac",), colour=COLOURS[6]),
)
_PANEL_HEIGHT = 2.7


def report(experiment: Experiment) -> Iterator[str | Figure]:
    """Yield the log's figures as text, then the picture."""
    log = experiment.log
    panels = [panel for panel in _PANELS if panel.shown(log)]
    yield from summary(log, panels)
    yield from experiment.trouble()
    if not panels:
        raise NothingToDrawError("there is no training log with figures here yet.")
    height = _PANEL_HEIGHT * -(-len(panels) // 2)
    figure = sheet(experiment, "Training progress", height, averages_notes(panels, log))
    grid(figure, 2, [partial(panel.draw, log=log) for panel in panels])
    yield figure


if __name__ == "__main__":
    sys.exit(main(PICTURE, "Draw what the training itself logged.", report))
