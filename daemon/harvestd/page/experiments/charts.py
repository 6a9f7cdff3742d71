"""The curves of compared experiments over each other: one plot for each key of their logs, and one of their evals.

Each experiment has its letter at the end of its curve; letters that would meet are pushed apart.
"""

from collections.abc import Sequence
from typing import Any, Final

import msgspec

from harvestd.api.state import Source
from harvestd.convention.structs import Immutable
from harvestd.documents.comparison import Comparison, Row
from harvestd.page import plots, words
from harvestd.page.run.strips import NAMES
from harvestd.series.reading import Question

HEIGHT: Final = 160
_POINTS: Final = 400
_SMOOTHING: Final = 0.8
_CLOSE: Final = 0.05
_CLOSEST: Final = 0.09
"""Letters that are this close in width are at least this far apart in height, as shares of the plot."""
KEYS: Final = ("r_mean", "reward", "entropy", "kl", "loss", "gns_ema_critical_batch")
_LETTERS: Final = "ABCDEFGH"


class Line(Immutable):
    """What one experiment is in a plot."""

    letter: str
    number: int
    path: str
    points: tuple[tuple[str, str, str, str], ...]
    """Of evals: where they are, and from where to where their errors reach, in percent."""
    end: tuple[str, str] | None
    """Where its letter is."""
    value: str
    """The newest value."""


class Chart(Immutable):
    """One plot."""

    name: str
    about: str
    lines: tuple[Line, ...]
    ticks: tuple[tuple[str, str], ...]
    axis: tuple[tuple[str, str, str], ...]
    label: str


async def read(source: Source, experiments: Sequence[str]) -> list[Any]:
    """Return the curves of each experiment, by its id, as `GET /v1/runs/ID/series` has them."""
    bodies = [await source.logs.answer(each, Question(KEYS, _POINTS)) for each in experiments]
    return [msgspec.json.decode(b"{" + body + b"}") for body in bodies]


def keys_of(series: Sequence[Any]) -> list[str]:
    """Return the keys that at least one log has."""
    return [key for key in KEYS if any(key in each["curves"] for each in series)]


def drawn(found: Comparison, series: Sequence[Any]) -> list[Chart]:
    """Return the plots; only those with a curve."""
    last = max([each["step"] or 0 for each in series] + [1])
    axis = plots.steps_scale(last, 6)
    charts = [_evals(found.tables[0].rows, axis)] if found.tables else []
    charts += [_chart(key, [each["curves"].get(key) for each in series], axis) for key in keys_of(series)]
    return [chart for chart in charts if any(line.path for line in chart.lines)]


def newest(curve: Any) -> str:  # noqa: ANN401  (JSON)
    """Return the newest value of a curve."""
    known = [] if curve is None else [value for value in curve["last"] if value is not None]
    return words.figure(known[-1]) if known else words.DASH


def _chart(key: str, curves: Sequence[Any], axis: plots.Scale) -> Chart:
    smooth = [[] if each is None else plots.smoothed(each.get("mean", each["last"]), _SMOOTHING) for each in curves]
    scale = plots.scale_of(smooth)
    lines = []
    for number, (curve, ys) in enumerate(zip(curves, smooth, strict=True), 1):
        xs = [] if curve is None else [axis.share(step) for step in curve["step"]]
        gaps = set() if curve is None else {step for step, _ in curve.get("nonfinite", ())}
        places = [
            None if y is None or step in gaps else scale.share(y)
            for step, y in zip([] if curve is None else curve["step"], ys, strict=True)
        ]
        known = [(x, y) for x, y in zip(xs, places, strict=True) if y is not None]
        lines.append((number, plots.line(xs, places, HEIGHT), (), known[-1] if known else None, newest(curve)))
    return _drawn(NAMES.get(key, key), "", lines, scale, axis)


def _evals(rows: Sequence[Row], axis: plots.Scale) -> Chart:
    found = [
        [(each.at or 0, each.rate) for each in row.line.evals if each.rate is not None] if row.line else []
        for row in rows
    ]
    ends = [mean.value + sign * mean.error for of in found for _, mean in of for sign in (-1, 1)]
    scale = plots.scale_between(min(ends), max(ends)) if len(set(ends)) > 1 else plots.scale_of([ends])
    lines = []
    for number, of in enumerate(found, 1):
        xs, ys = [min(1.0, axis.share(at)) for at, _ in of], [scale.share(mean.value) for _, mean in of]
        points = tuple(
            (
                plots.percent(x),
                plots.percent(1 - y),
                plots.percent(1 - scale.share(mean.value - mean.error)),
                plots.percent(1 - scale.share(mean.value + mean.error)),
            )
            for x, y, (_, mean) in zip(xs, ys, of, strict=True)
        )
        end = (xs[-1], ys[-1]) if of else None
        lines.append((number, plots.line(xs, ys, HEIGHT), points, end, f"{of[-1][1].value:.3f}" if of else words.DASH))
    return _drawn("Pass rate", "\u00b1 standard error", lines, scale, axis)


def _drawn(
    name: str, about: str, lines: Sequence[tuple[int, str, Any, Any, str]], scale: plots.Scale, axis: plots.Scale
) -> Chart:
    ends: dict[int, tuple[str, str]] = {}
    clusters: dict[int, list[tuple[int, float, float]]] = {}
    for number, _, _, end, _ in lines:
        if end is not None:
            clusters.setdefault(round(end[0] / _CLOSE), []).append((number, *end))
    for cluster in clusters.values():
        places = plots.apart([1 - min(1.0, max(0.0, y)) for _, _, y in cluster], _CLOSEST)
        for (number, x, _), place in zip(cluster, places, strict=True):
            ends[number] = plots.percent(x), plots.percent(place)
    shown = tuple(
        Line(_LETTERS[number - 1], number, path, tuple(points), ends.get(number), value)
        for number, path, points, _, value in lines
    )
    ticks = tuple((plots.percent(1 - scale.share(tick)), scale.label(tick)) for tick in scale.ticks)
    label = f"{name}: " + ", ".join(f"{line.letter} {line.value}" for line in shown)
    return Chart(name, about, shown, ticks, tuple(plots.axis_ticks(axis)), label)
