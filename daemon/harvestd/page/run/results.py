"""The evals of a run: points with error bars on the axis of its curves, and a table with the same figures."""

from collections.abc import Sequence
from typing import Final

import anyio.to_thread
from msgspec.structs import replace

from harvestd.api.state import Source
from harvestd.convention.structs import Immutable
from harvestd.page import plots, words
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.report.scripts.evals import Eval, Mean
from harvestd.report.scripts.lines import Line, lines_of, powers_first
from harvestd.report.small_files import Evals, Known
from harvestd.store.root import DataRoot

HEIGHT: Final = 204
_MOST_ROWS: Final = 100
_MOST_KS: Final = 4
_CLOSEST: Final = 0.075
"""The least distance of two names at the ends of lines, as a share of the height."""


class Point(Immutable):
    """One result: where it is and how far its error reaches, in percent of the plot."""

    step: int
    x: str
    y: str
    low: str
    high: str


class EvalCurve(Immutable):
    """The results of one figure by step."""

    name: str
    value: str
    """The newest one."""
    is_first: bool
    path: str
    points: tuple[Point, ...]
    end: str
    label: str
    """Where the line ends, and where its name is, in percent of the height."""


class EvalRow(Immutable):
    """One eval in the table."""

    step: str
    cells: tuple[tuple[str, str], ...]
    """Value and error."""
    n: str
    here: float | None
    """When its metrics arrived."""


class Shown(Immutable):
    """The evals of the largest group with equal settings."""

    setting: str
    n: str
    curves: tuple[EvalCurve, ...]
    ticks: tuple[tuple[str, str], ...]
    end: str
    """Where the newest one is, in percent of the width."""
    columns: tuple[str, ...]
    rows: tuple[EvalRow, ...]
    more: int
    """How many evals are in other groups, or not shown."""
    newest: tuple[str, str, str] | None
    """Value, error and step of the newest pass rate."""
    behind: str
    """The path of the pass rates of the run before, with equal settings."""
    behind_points: tuple[tuple[int, str, str], ...]
    """Their steps, and where they are, in percent."""
    compared: float | None
    """How much higher the newest pass rate is than that of the run before at the same step."""


async def read(source: Source, run: RunRecord, known: Known) -> list[Eval]:
    """Return the evals of a run's experiment that are here."""
    evals, last = source.context.evals, run.final.step if run.final else run.step
    return await anyio.to_thread.run_sync(_read, evals, source.root, known, last)


def _read(evals: Evals, root: DataRoot, known: Known, last: int | None) -> list[Eval]:
    return list(evals.of(root, known.files, evals.configurations.of(root, known), last).evals)


def shown(evals: Sequence[Eval], before: Sequence[Eval], files: Sequence[FileRecord], last: int) -> Shown | None:
    """Return what is shown of evals, on an axis of steps that ends at `last`; None where there are none.

    `before`: the evals of the run before.
    """
    lines = lines_of(evals).lines
    if not lines:
        return None
    line = lines[0]
    columns = _columns(line)
    scale = plots.scale_between(
        *_range([mean for each in line.evals for mean in _means(each, columns) if mean is not None]), lines=4
    )
    curves = [curve for name in columns if (curve := _curve(line, name, scale, last, is_first=name == columns[0]))]
    earlier = [
        (each.at, each.rate.value)
        for other in lines_of(before).lines
        if other.setting == line.setting
        for each in other.evals
        if each.at is not None and each.at <= last and each.rate is not None
    ]
    newest = line.evals[-1]
    then = None if newest.at is None else dict(earlier).get(newest.at)
    rate = _means(newest, columns[:1])[0]
    return Shown(
        setting=words.told(line.setting, 120),
        n=words.number(newest.n),
        curves=tuple(_apart(curves)),
        ticks=tuple((plots.percent(1 - scale.share(tick)), scale.label(tick)) for tick in scale.ticks),
        end=plots.percent(min(1.0, (newest.at or 0) / max(1, last))),
        columns=columns,
        rows=tuple(_row(each, columns, files) for each in reversed(line.evals[-_MOST_ROWS:])),
        more=len(evals) - len(line.evals),
        newest=None if rate is None else (f"{rate.value:.3f}", f"{rate.error:.3f}", _step(newest)),
        behind=plots.line(
            [at / max(1, last) for at, _ in earlier], [scale.share(value) for _, value in earlier], HEIGHT
        ),
        behind_points=tuple(
            (at, plots.percent(at / max(1, last)), plots.percent(1 - scale.share(value))) for at, value in earlier
        ),
        compared=None if rate is None or then is None or newest.is_base else rate.value - then,
    )


def _columns(line: Line) -> tuple[str, ...]:
    """Return the figures that are shown: the pass rate, then pass@k for some k."""
    ks = powers_first({k for each in line.evals for k in each.ks})[:_MOST_KS]
    first = ("pass rate",) if any(each.rate is not None for each in line.evals) else ()
    return (*first, *(f"pass@{k}" for k in ks if not (first and k == 1)))


def _means(each: Eval, columns: Sequence[str]) -> list[Mean | None]:
    return [each.rate if name == "pass rate" else each.passed(int(name[5:])) for name in columns]


def _range(means: Sequence[Mean]) -> tuple[float, float]:
    if not means:
        return 0.0, 1.0
    low, high = min(mean.value - mean.error for mean in means), max(mean.value + mean.error for mean in means)
    return (low, high) if high > low else (low - 0.05, high + 0.05)


def _curve(line: Line, name: str, scale: plots.Scale, last: int, *, is_first: bool) -> EvalCurve | None:
    found = [(each.at or 0, mean) for each in line.evals if (mean := _means(each, [name])[0]) is not None]
    if not found:
        return None
    points = [
        Point(
            at,
            plots.percent(min(1.0, at / max(1, last))),
            plots.percent(1 - scale.share(mean.value)),
            plots.percent(1 - scale.share(mean.value - mean.error)),
            plots.percent(1 - scale.share(mean.value + mean.error)),
        )
        for at, mean in found
    ]
    xs, ys = [min(1.0, at / max(1, last)) for at, _ in found], [scale.share(mean.value) for _, mean in found]
    path = plots.line(xs, ys, HEIGHT)
    return EvalCurve(name, f"{found[-1][1].value:.3f}", is_first, path, tuple(points), points[-1].y, points[-1].y)


def _apart(curves: Sequence[EvalCurve]) -> list[EvalCurve]:
    """Return the curves with their names pushed apart where they would meet."""
    places = plots.apart([float(curve.end[:-1]) / 100 for curve in curves], _CLOSEST)
    return [replace(curve, label=plots.percent(place)) for curve, place in zip(curves, places, strict=True)]


def _step(each: Eval) -> str:
    return "base" if each.is_base else words.number(each.at) if each.at is not None else words.told(each.step, 20)


def _row(each: Eval, columns: Sequence[str], files: Sequence[FileRecord]) -> EvalRow:
    cells = [
        (words.DASH, "") if mean is None else (f"{mean.value:.3f}", f"{mean.error:.3f}")
        for mean in _means(each, columns)
    ]
    arrived = max(
        (file.fetched_at for file in files if file.target[-1] == "metrics.csv" and _is_of(file, each)), default=None
    )
    return EvalRow(_step(each), tuple(cells), words.number(each.n), arrived)


def _is_of(file: FileRecord, each: Eval) -> bool:
    """Return whether a file lies in an eval's directory of its step."""
    parts, place = tuple(file.target)[1:], tuple(each.place)
    return parts[: len(place)] == place and any(part.startswith(f"step_{each.step}") for part in parts[len(place) :])
