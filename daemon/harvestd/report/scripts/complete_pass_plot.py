"""Draw how the pass rate went, above how the training went: complete_gns_training_progress.png.

Call it as `python analysis/complete_pass_plot.py`; it needs matplotlib alone. The pass rate is the share of right
answers in an eval; where its own column is wrong (r is not 8) pass@1 stands for it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

sys.dont_write_bytecode = True  # only pictures are left beside the scripts
sys.path.insert(0, str(Path(__file__).resolve().parent))  # which an isolated Python leaves out

# First, since it says so where matplotlib is missing.
from harvestd.report.scripts.drawing import NothingToDrawError, main, sheet, table

# isort: split
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harvestd.report.scripts.evals import ANSWERS_OF_PASS_RATE, read_evals
from harvestd.report.scripts.experiment import Experiment
from harvestd.report.scripts.lines import Line, lines_of
from harvestd.report.scripts.panels import (
    COLOURS,
    MARKERS,
    Panel,
    averages_notes,
    bars_note,
    draw_means,
    in_percent,
    legend_above,
    mark_steps,
    percent_axis,
)

PICTURE = "complete_gns_training_progress.png"
_PANELS = (
    Panel("Mean reward", ("r_mean",), colour=COLOURS[0]),
    Panel("Loss", ("loss",), colour=COLOURS[1]),
    Panel("Critical batch size", ("gns_critical_batch",), "gns_ema_critical_batch", COLOURS[2]),
    Panel("Simple noise scale, B_simple", ("gns_B_simple",), colour=COLOURS[3]),
)
_PASS_HEIGHT = 4.2
_PANEL_HEIGHT = 2.2
_LEGEND_HEIGHT = 0.27


def report(experiment: Experiment) -> Iterator[str | Figure]:
    """Yield the pass rates as text, then the picture."""
    lines, left_out = lines_of(read_evals(experiment))
    yield from _rates(lines)
    yield from left_out
    yield from experiment.trouble()
    panels = [panel for panel in _PANELS if panel.shown(experiment.log)]
    if not lines and not panels:
        raise NothingToDrawError("there is no eval and no training log here yet.")
    if not lines:
        yield "There is no eval yet: the picture shows the training alone."
    yield _picture(experiment, lines, panels)


def _rates(lines: list[Line]) -> Iterator[str]:
    rows = [
        (str(line.setting), each.step, str(rate.n), f"{rate.value:.4f}", f"{rate.error:.4f}")
        for line in lines
        for each in line.evals
        if (rate := each.rate)
    ]
    if rows:
        yield from table(("eval", "step", "n", "pass rate", "std. error"), rows)


def _picture(experiment: Experiment, lines: list[Line], panels: list[Panel]) -> Figure:
    shown = lines[: len(COLOURS)]
    heights = [_PANEL_HEIGHT for _ in panels]
    if shown:
        words = sum(str(line).count("\n") + 1 for line in shown)
        heights.insert(0, _PASS_HEIGHT + _LEGEND_HEIGHT * words)
    notes = [*_notes(lines, shown), *averages_notes(panels, experiment.log)]
    figure = sheet(experiment, "Pass rate and training progress", sum(heights), notes)
    axes = figure.subplots(len(heights), 1, sharex=True, squeeze=False, height_ratios=heights)[:, 0]
    if shown:
        _draw_rates(axes[0], shown)
    for n, panel in enumerate(panels, start=len(heights) - len(panels)):
        panel.draw(axes[n], experiment.log)
    mark_steps(axes[-1])
    return figure


def _notes(lines: list[Line], shown: list[Line]) -> Iterator[str]:
    if shown:
        yield bars_note(shown)
    if any(line.setting.generations != ANSWERS_OF_PASS_RATE for line in shown):
        yield f"Where r is not {ANSWERS_OF_PASS_RATE}, pass@1 stands for the pass rate."
    if len(shown) < len(lines):
        yield f"{len(lines) - len(shown)} more settings of evals are not drawn."


def _draw_rates(axes: Axes, lines: list[Line]) -> None:
    for n, line in enumerate(lines):
        rates = [(each, in_percent(rate)) for each in line.evals if (rate := each.rate)]
        draw_means(axes, rates, str(line), COLOURS[n], MARKERS[n])
    percent_axis(axes)
    axes.set_ylabel("pass rate (%)")
    legend_above(axes)


if __name__ == "__main__":
    sys.exit(main(PICTURE, "Draw the pass rate above the training's progress.", report))
