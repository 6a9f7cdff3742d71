"""Draw what the probes of gradient noise and of entropy measured: entropy_probe.png.

Call it as `python analysis/entropy_probe_analysis.py`; it needs matplotlib alone. Values that the gradient-noise probe
gave before its window was full are left out. Entropies of the policy and of evaluated answers stand beside them.
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
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from harvestd.report.scripts.evals import Eval, Mean, read_evals
from harvestd.report.scripts.experiment import Experiment
from harvestd.report.scripts.lines import Line, lines_of
from harvestd.report.scripts.panels import (
    COLOURS,
    MARKERS,
    Draw,
    Panel,
    averages_notes,
    bars_note,
    draw_means,
    grid,
    summary,
    wrapped,
)

PICTURE = "entropy_probe.png"
_PROBES = (
    Panel("Critical batch size", ("gns_critical_batch",), "gns_ema_critical_batch", COLOURS[2]),
    Panel("Noise to signal", ("gns_noise_to_signal",), "gns_ema_noise_to_signal", COLOURS[1]),
    Panel("Signal, mu", ("gns_mu",), "gns_ema_mu", COLOURS[0]),
    Panel("Noise, tr Σ", ("gns_tr_sigma",), "gns_ema_tr_sigma", COLOURS[3]),
    Panel("Simple noise scale, B_simple", ("gns_B_simple",), colour=COLOURS[4]),
    Panel("Predicted change of entropy", ("simple_entropy_delta_h_predicted",), colour=COLOURS[1]),
    Panel("Entropy, simple probe", ("simple_entropy_current",), colour=COLOURS[0]),
    Panel("Gradient norm, simple probe", ("simple_entropy_grad_norm",), colour=COLOURS[4]),
    Panel("Probed change of entropy", ("entropy_probe_delta_h",), colour=COLOURS[1]),
    Panel("Mean log-probability", ("entropy_probe_mean_log_prob",), colour=COLOURS[6]),
    Panel("Fisher information, diagonal", ("entropy_probe_fisher_diag_mean",), colour=COLOURS[2]),
    Panel("Fisher information, off diagonal", ("entropy_probe_fisher_off_diag_mean",), colour=COLOURS[3]),
)
_POLICY = Panel("Entropy of the policy", ("entropy",), colour=COLOURS[5])
_PANEL_HEIGHT = 2.7
_LEGEND_HEIGHT = 0.25
_LETTERS = 42
"""What fits into a legend below half of the picture's width."""


def report(experiment: Experiment) -> Iterator[str | Figure]:
    """Yield the probes' figures as text, then the picture."""
    log = experiment.log
    probes = [panel for panel in _PROBES if panel.shown(log)]
    lines = [line for line in lines_of(read_evals(experiment)).lines if _entropies(line)][: len(COLOURS)]
    panels = [panel for panel in (*probes, _POLICY) if panel.shown(log)]
    yield from summary(log, panels)
    yield from experiment.trouble()
    if not probes and not lines:
        raise NothingToDrawError("the log has no values of a probe, and there is no eval with entropies here yet.")
    if not probes:
        yield "The log has no values of a probe: the picture shows entropies alone."
    draws: list[Draw] = [partial(panel.draw, log=log) for panel in panels]
    notes = averages_notes(panels, log)
    if lines:
        draws.append(partial(_draw_evals, lines=lines))
        notes.append(bars_note(lines))
    words = sum(wrapped(line, _LETTERS).count("\n") + 1 for line in lines)
    height = _PANEL_HEIGHT * -(-len(draws) // 2) + _LEGEND_HEIGHT * words
    figure = sheet(experiment, "Probes and entropy", height, notes)
    grid(figure, 2, draws)
    yield figure


def _entropies(line: Line) -> list[tuple[Eval, Mean]]:
    return [(each, mean) for each in line.evals if (mean := each.means.get("entropy_mean"))]


def _draw_evals(axes: Axes, lines: list[Line]) -> None:
    for n, line in enumerate(lines):
        draw_means(axes, _entropies(line), wrapped(line, _LETTERS), COLOURS[n], MARKERS[n])
    axes.set_title("Entropy of evaluated answers")
    axes.legend(loc="upper left", bbox_to_anchor=(0, -0.28), borderpad=0, borderaxespad=0, handlelength=1.6)


if __name__ == "__main__":
    sys.exit(main(PICTURE, "Draw what the probes of gradient noise and of entropy measured.", report))
