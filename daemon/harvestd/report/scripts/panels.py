"""The content of one panel of a picture: quantities of the training log, or figures of evals, over training's steps.

It is copied beside the analysis scripts, which share it, and needs matplotlib.
"""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from typing import Callable, NamedTuple

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from harvestd.report.scripts.drawing import table
from harvestd.report.scripts.evals import Eval, Mean
from harvestd.report.scripts.experiment import Series, TrainingLog
from harvestd.report.scripts.lines import Line

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
"""Okabe and Ito's: they stay apart for the colour-blind."""
MARKERS = "osD^vPX"
_NARROWEST, _WIDEST = 7, 99
_WIDTHS_IN_LOG = 20
"""An average is over this part of the log's steps, between the narrowest and the widest."""
_ROOM = 2
"""Percent beyond the ends of an axis of percent."""
_LEAST_RANGE = 20
"""Percent that such an axis shows at least: a small difference is to look small."""
_SPREAD = 100
"""Values that are mostly more than this many times apart need a logarithmic axis."""

Draw = Callable[[Axes], None]
"""Draws one panel."""


class Panel(NamedTuple):
    """Quantities of the training log that share an axis."""

    title: str
    keys: tuple[str, ...]
    """Of the log's rows."""
    averaged: str = ""
    """The key of an average that the writer itself keeps of the only quantity."""
    colour: str = COLOURS[0]
    """Of the first quantity."""

    def shown(self, log: TrainingLog) -> list[tuple[str, Series]]:
        """Return the quantities that the log has values of, by key."""
        every = (*self.keys, self.averaged) if self.averaged else self.keys
        return [(key, series) for key in every if (series := log.series(key)).steps]

    def draw(self, axes: Axes, log: TrainingLog) -> None:
        """Draw it: every step faintly, and above it an average where there are many steps."""
        shown = self.shown(log)
        colours = [self.colour, *(colour for colour in COLOURS if colour != self.colour)]
        if len(shown) > 1 and self.averaged == shown[-1][0]:
            (_, series), (_, average) = shown
            _averaged_curve(axes, series, average, self.colour, "the probe's own average")
        else:
            for n, (key, series) in enumerate(shown):
                label = key.rpartition("_")[2] if len(shown) > 1 else None
                _curve(axes, series, _width(log), colours[n % len(colours)], label)
        axes.set_title(self.title)
        if axes.get_legend_handles_labels()[1]:
            axes.legend(
                loc="lower right",
                bbox_to_anchor=(1, 1),
                ncols=len(shown),
                borderpad=0,
                borderaxespad=0.3,
                handlelength=1,
                columnspacing=1,
            )
        if _widely_spread(value for _, series in shown for value in series.values):
            axes.set_yscale("log")
            axes.yaxis.set_major_formatter("{x:g}")


def _width(log: TrainingLog) -> int:
    """Return over how many points averages are, each a row of the log that has a value: an odd number."""
    return min(_WIDEST, max(_NARROWEST, len(log.rows) // _WIDTHS_IN_LOG) | 1)


def _curve(axes: Axes, series: Series, width: int, colour: str, label: str | None) -> None:
    if len(series.steps) < 2 * width:
        axes.plot(series.steps, series.values, color=colour, marker="o", label=label)
    else:
        _averaged_curve(axes, series, series.averaged(width), colour, label)


def _averaged_curve(axes: Axes, series: Series, average: Series, colour: str, label: str | None) -> None:
    marker = "o" if len(average.steps) < _NARROWEST else None
    axes.plot(series.steps, series.values, color=colour, alpha=0.4, linewidth=1)
    axes.plot(average.steps, average.values, color=colour, marker=marker, label=label)


def _widely_spread(values: Iterable[float]) -> bool:
    ordered = sorted(values)
    few = len(ordered) // 20
    middle = ordered[few : len(ordered) - few]
    return bool(ordered) and ordered[0] > 0 and middle[-1] > _SPREAD * middle[0]


def averages_notes(panels: Iterable[Panel], log: TrainingLog) -> list[str]:
    """Return a note on what is averaged, where any panel shows averages."""
    width = _width(log)
    long = any(len(series.steps) >= 2 * width for panel in panels for _, series in panel.shown(log))
    return [f"Thin: every point. Thick: the mean of {width} points, or what its legend says."] if long else []


def draw_means(axes: Axes, means: Iterable[tuple[Eval, Mean]], label: str, colour: object, marker: str) -> None:
    """Draw evals' means, in the unit that they are given in, with their standard errors."""
    points = [(each.at or 0, mean, each.is_base) for each, mean in means]
    axes.errorbar(
        [at for at, _, _ in points],
        [mean.value for _, mean, _ in points],
        yerr=[mean.error for _, mean, _ in points],
        color=colour,
        marker=marker,
        elinewidth=1.2,
        label=label,
    )
    for at, mean, is_base in points:
        if is_base:
            axes.plot(at, mean.value, color=colour, marker=marker, markerfacecolor="white", zorder=5)


def bars_note(lines: Iterable[Line]) -> str:
    """Return notes on the bars of evals, and on their open markers where there are any."""
    base = any(each.is_base for line in lines for each in line.evals)
    return "Bars: ± 1 standard error over the n questions." + (" Open markers: the base model." if base else "")


def wrapped(line: Line, letters: int) -> str:
    """Return a line's words in lines of `letters`, broken after commas where that does."""
    together = str(line).replace(" ", "\N{NO-BREAK SPACE}").replace(",\N{NO-BREAK SPACE}", ", ")
    return "\n".join(textwrap.fill(part, letters) for part in together.splitlines())


def in_percent(mean: Mean) -> Mean:
    """Return a share as percent."""
    return Mean(100 * mean.value, 100 * mean.error, mean.n)


def percent_axis(axes: Axes, among: Sequence[Axes] = ()) -> None:
    """Let the axis end where percent do, with room for markers; `among`: those whose range it shares."""
    limits = [each.get_ylim() for each in among or (axes,)]
    highest = min(100 + _ROOM, max(high for _, high in limits))
    axes.set_ylim(max(-_ROOM, min(highest - _LEAST_RANGE, *(low for low, _ in limits))), highest)


def legend_above(axes: Axes) -> None:
    """Put a legend of long words above the axes, where it hides nothing."""
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), borderpad=0, borderaxespad=0.3, handlelength=1.6)


def mark_steps(axes: Axes) -> None:
    """Label the axis as training steps, and mark only whole ones."""
    axes.set_xlabel("training step")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=5, integer=True, min_n_ticks=1, steps=[1, 2, 5, 10]))


def grid(figure: Figure, columns: int, draws: Sequence[Draw]) -> list[Axes]:
    """Draw panels row by row, over one axis of steps that is marked below the last one of each column; gives them."""
    rows = -(-len(draws) // columns)
    places = list(figure.subplots(rows, columns, sharex=True, squeeze=False).ravel())
    shown, idle = places[: len(draws)], places[len(draws) :]
    for n, draw in enumerate(draws):
        draw(shown[n])
    for place in idle:
        place.remove()
    for place in shown[-columns:]:
        mark_steps(place)
        place.tick_params(labelbottom=True)
    return shown


def summary(log: TrainingLog, panels: Iterable[Panel]) -> Iterator[str]:
    """Yield a text table of what panels show; nothing where they show nothing."""
    rows = [
        (key, str(len(values)), *(f"{value:.5g}" for value in (values[0], values[-1], min(values), max(values))))
        for panel in panels
        for key, (_, values) in panel.shown(log)
    ]
    if rows:
        yield from table(("key", "steps", "first", "last", "least", "greatest"), rows)
