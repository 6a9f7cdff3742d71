"""Draw every pass@k over the training's steps, a panel for each way of evaluating: detailed_passk_progress.png.

Call it as `python analysis/detailed_passk_analysis.py`; it needs matplotlib alone. pass@k is the share of questions of
which any of the first k answers is right; how many k there are depends on the eval's answers a question, r.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

sys.dont_write_bytecode = True  # only pictures are left beside the scripts
sys.path.insert(0, str(Path(__file__).resolve().parent))  # which an isolated Python leaves out

# First, since it says so where matplotlib is missing.
from harvestd.report.scripts.drawing import NothingToDrawError, main, sheet, table

# isort: split
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harvestd.report.scripts.evals import read_evals
from harvestd.report.scripts.experiment import Experiment
from harvestd.report.scripts.lines import Line, lines_of, powers_first
from harvestd.report.scripts.panels import MARKERS, bars_note, draw_means, grid, in_percent, percent_axis, wrapped

PICTURE = "detailed_passk_progress.png"
_MOST_PANELS = 6
_STACKED = 2
"""Up to so many panels are below one another, more of them two by two."""
_LETTERS = 76
"""What fits above a panel as wide as the picture."""
_PANEL_HEIGHT = 4.2
_BRIGHTEST = 0.85
"""Of the colour map; beyond, it can hardly be seen on white."""


def report(experiment: Experiment) -> Iterator[str | Figure]:
    """Yield all pass@k as text, then the picture."""
    every, left_out = lines_of(read_evals(experiment))
    lines = [line for line in every if _ks([line])]
    for line in lines:
        yield from _passes(line)
    yield from left_out
    if not lines:
        raise NothingToDrawError("there is no eval with pass@k here yet.")
    yield _picture(experiment, lines)


def _passes(line: Line) -> Iterator[str]:
    ks = _ks([line])
    rows = [
        (each.step, str(each.n), *(f"{mean.value:.4f} ± {mean.error:.4f}" if mean else "-" for mean in means))
        for each in line.evals
        for means in [[each.passed(k) for k in ks]]
    ]
    yield str(line)
    yield from table(("step", "n", *(f"pass@{k}" for k in ks)), rows)
    yield ""


def _ks(lines: list[Line]) -> list[int]:
    return sorted({k for line in lines for each in line.evals for k in each.ks})


def _picture(experiment: Experiment, lines: list[Line]) -> Figure:
    shown = lines[:_MOST_PANELS]
    notes = [bars_note(shown)]
    if len(shown) < len(lines):
        notes.append(f"{len(lines) - len(shown)} more settings of evals are not drawn.")
    columns = 1 if len(shown) <= _STACKED else 2
    ks = powers_first(_ks(shown))
    rows = -(-len(shown) // columns)
    figure = sheet(experiment, "pass@k over training", _PANEL_HEIGHT * rows, notes)
    draws = [partial(_draw, line=line, ks=ks, letters=_LETTERS // columns) for line in shown]
    places = grid(figure, columns, draws)
    for place in places:
        percent_axis(place, places)
    most = max(places, key=lambda place: len(place.get_legend_handles_labels()[1]))
    figure.legend(*most.get_legend_handles_labels(), loc="outside right center")
    return figure


def _draw(axes: Axes, line: Line, ks: list[int], letters: int) -> None:
    colours = colormaps["viridis"]
    for rank, k in reversed(list(enumerate(ks))):
        passes = [(each, in_percent(mean)) for each in line.evals if (mean := each.passed(k))]
        if passes:
            colour = colours(_BRIGHTEST * rank / max(1, len(ks) - 1))
            draw_means(axes, passes, f"pass@{k}", colour, MARKERS[rank % len(MARKERS)])
    axes.set_title(wrapped(line, letters))
    axes.set_ylabel("questions solved (%)")


if __name__ == "__main__":
    sys.exit(main(PICTURE, "Draw every pass@k over the training's steps.", report))
