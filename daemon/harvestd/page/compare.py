"""Two to eight experiments beside each other: results, curves over each other, and the configurations' differences.

Each experiment has a letter, a dash and a colour. The first one is what the others are measured against.
"""

from collections.abc import Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import quote

import anyio.to_thread
import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request

from harvestd.api.state import Source
from harvestd.catalogue import queries
from harvestd.convention.structs import Immutable
from harvestd.documents.comparison import MOST, Compared, Comparison, Row, compare
from harvestd.documents.experiments import ExperimentReader
from harvestd.errors import Fatal, HarvestError
from harvestd.page import plots, words
from harvestd.page.run.strips import NAMES
from harvestd.report.results import ResultsReader
from harvestd.series.reading import Question

HEIGHT: Final = 160
_POINTS: Final = 400
_SMOOTHING: Final = 0.8
_CLOSE: Final = 0.05
_CLOSEST: Final = 0.09
"""Letters that are this close in width are at least this far apart in height, as shares of the plot."""
_KEYS: Final = ("r_mean", "reward", "entropy", "kl", "loss", "gns_ema_critical_batch")
_LETTERS: Final = "ABCDEFGH"
_WORDS: Final = {"better": "up", "worse": "down", "within error": "same"}
_MOST_SHOWN: Final = 40
"""Keys of a configuration that differ."""


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


class Experiment(Immutable):
    """One row of the table."""

    letter: str
    number: int
    name: str
    rest: str
    url: str
    steps: str
    best: tuple[str, str, str] | None
    """Value, error and step of the best pass rate."""
    against: tuple[str, str, str, str] | None
    """Difference to the first one, its error, its meaning in a word, and the name of the icon."""
    newest: tuple[str, ...]
    """The newest value of each key of a chart."""


async def values(source: Source, request: Request) -> dict[str, object]:
    """Return the values of the template; raise `HTTPException` for unknown, too few or too many experiments."""
    names = request.query_params.getlist("id")
    if not source.ready.is_set() or len(names) > MOST:
        raise HTTPException(404, f"Two to {MOST} experiments can be compared, each as id= in the address.")
    try:
        found = await anyio.to_thread.run_sync(partial(_compared, source, names))
    except Fatal as error:
        raise HTTPException(404, f"{words.told(error)}: {words.told(error.hint or '')}") from error
    except HarvestError as error:
        raise HTTPException(503, words.told(error)) from error
    series = []
    for each in found.experiments:
        body = await source.logs.answer(each.view.experiment.id, Question(_KEYS, _POINTS))
        series.append(msgspec.json.decode(b"{" + body + b"}"))
    return await anyio.to_thread.run_sync(_values, found, series)


def _compared(source: Source, names: Sequence[str]) -> Comparison:
    reader = ExperimentReader(source.root, ResultsReader(source.context.evals))
    with queries.questions(source.context.settings.state) as connection:
        return compare(connection, reader, names)


def _values(found: Comparison, series: Sequence[Any]) -> dict[str, object]:
    keys = [key for key in _KEYS if any(key in each["curves"] for each in series)]
    last = max([each["step"] or 0 for each in series] + [1])
    axis = plots.steps_scale(last, 6)
    table = found.tables[0] if found.tables else None
    charts = [] if table is None else [_evals(table.rows, axis)]
    charts += [_chart(key, [each["curves"].get(key) for each in series], axis) for key in keys]
    rows = table.rows if table is not None else (None,) * len(found.experiments)
    experiments = [
        _experiment(number, each, row, [document["curves"].get(key) for key in keys])
        for number, (each, row, document) in enumerate(zip(found.experiments, rows, series, strict=True), 1)
    ]
    differing = [
        (words.told(key, 80), [("" if value is None else words.told(value, 60), value == of[0]) for value in of])
        for key, of in found.configuration
    ]
    return {
        "title": f"{len(experiments)} experiments",
        "experiments": experiments,
        "keys": [NAMES.get(key, key) for key in keys],
        "charts": [chart for chart in charts if any(line.path for line in chart.lines)],
        "setting": "" if table is None else words.told(table.setting, 120),
        "differing": differing[:_MOST_SHOWN],
        "more": max(0, len(differing) - _MOST_SHOWN) + found.more_keys,
        "width": plots.WIDTH,
        "height": HEIGHT,
    }


def _experiment(number: int, each: Compared, row: Row | None, curves: Sequence[Any]) -> Experiment:
    view = each.view
    directory, first = view.experiment.directory, view.part("experiment_name")
    first = first if directory.startswith(first) else directory
    step, total = view.progress
    run = max(view.runs, key=lambda each: each.name, default=None)
    best = row.line.best if row is not None and row.line is not None else None
    difference = row.difference if row is not None else None
    of_total = f" of {words.number(total)}" if total and total != step else ""
    word = difference.word.value if difference is not None and difference.word is not None else ""
    return Experiment(
        _LETTERS[number - 1],
        number,
        words.told(first, 80),
        words.told(directory[len(first) :], 120),
        "" if run is None else f"/runs/{quote(run.id, safe='')}",
        words.DASH if step is None else words.number(step) + of_total,
        None
        if best is None or best.rate is None
        else (
            f"{best.rate.value:.3f}",
            f"{best.rate.error:.3f}",
            "base" if best.is_base else words.number(best.at or 0),
        ),
        None
        if difference is None
        else (
            f"{difference.value:+.3f}".replace("-", words.MINUS),
            f"{difference.error:.3f}",
            word,
            _WORDS.get(word, "same"),
        ),
        tuple(_newest(curve) for curve in curves),
    )


def _newest(curve: Any) -> str:  # noqa: ANN401  (JSON)
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
        lines.append((number, plots.line(xs, places, HEIGHT), (), known[-1] if known else None, _newest(curve)))
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
