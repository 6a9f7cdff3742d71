"""All experiments as a table: sorted, filtered, each with its pass rates in a plot on one scale, to choose and compare.

The table is made in a thread, since there may be hundreds of rows. Pass rates of different settings are not comparable:
one setting is shown at a time, at first the one that most experiments have.
"""

import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final
from urllib.parse import urlencode

from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request

from harvestd.api.state import Source
from harvestd.convention.structs import Immutable
from harvestd.documents.comparison import MOST as MOST_COMPARED
from harvestd.documents.experiments import ExperimentReader, ExperimentView
from harvestd.page import words
from harvestd.page.experiments import reading
from harvestd.planning.run_status import RunStatus
from harvestd.report.scripts.evals import Eval, Mean
from harvestd.report.scripts.lines import Line

MOST: Final = 1_000
"""Rows that are shown."""
WIDTH: Final = 160.0
"""Of a row's plot."""
_MARGIN: Final = 10.0
_MOST_SETTINGS: Final = 30
_LONGEST: Final = 200
_KEPT_FOR: Final = 3.0
"""Seconds for which what was read is shown again, in another order or with other filters."""
_GAPS: Final = (0.02, 0.05, 0.1, 0.2, 0.5)
_MOST_TICKS: Final = 4


class Question(Immutable):
    """What of the table is asked for."""

    sort: str = "-date"
    """The key of a column, with a minus for the largest first."""
    text: str = ""
    model: str = ""
    hardware: str = ""
    state: str = ""
    evals: str = ""
    """A setting in words; empty: the most frequent one."""
    chosen: tuple[str, ...] = ()

    def url(self, **changed: object) -> str:
        """Return the address of the table with some of its parts changed."""
        parts = {"q": self.text} | {name: getattr(self, name) for name in ("sort", "model", "hardware", "state")}
        parts |= {"evals": self.evals} | changed
        given = [(name, str(value)) for name, value in parts.items() if value and (name, value) != ("sort", "-date")]
        return f"/experiments?{urlencode([*given, *(('id', each) for each in self.chosen)])}".rstrip("?")


class Column(Immutable):
    """The head of a column."""

    text: str
    name: str
    url: str
    sorted: str
    """ascending, descending, or empty: by another column."""
    is_number: bool


class Plot(Immutable):
    """The pass rates of an experiment, as SVG paths in a box of `WIDTH` by 20."""

    base: str
    error: str
    best: str
    label: str


class Row(Immutable):
    """One experiment."""

    name: reading.Name
    directory: str
    model: str
    hardware: str
    steps: str
    icon: str
    state: str
    last: tuple[str, str]
    best: tuple[str, str]
    no_eval: str
    """Why there is no pass rate."""
    at: str
    n: str
    plot: Plot | None
    size: str
    left_out: str
    is_chosen: bool


class Scale(Immutable):
    """The scale of the plots of all rows."""

    low: float
    high: float
    ticks: tuple[tuple[str, str], ...]
    """Each one's place, and its label."""

    def at(self, value: float) -> float:
        """Return the place of a value."""
        share = (value - self.low) / (self.high - self.low)
        return round(_MARGIN + share * (WIDTH - 2 * _MARGIN), 1)


class _Found(Immutable):
    """An experiment with its line of the shown setting."""

    view: ExperimentView
    line: Line | None


_Key = Callable[[_Found], object]
_COLUMNS: Final[dict[str, tuple[str, bool, _Key]]] = {
    "name": ("Name", False, lambda each: each.view.experiment.directory.casefold()),
    "date": ("Date", False, lambda each: (each.view.part("date"), each.view.newest_run)),
    "model": ("Model", False, lambda each: each.view.part("model").casefold()),
    "hardware": ("Hardware", False, lambda each: each.view.part("hardware").casefold()),
    "steps": ("Steps", True, lambda each: each.view.progress[0]),
    "state": ("State", False, lambda each: reading.state_of(each.view)[1]),
    "last": ("Last pass rate", True, lambda each: _value(each.line.last if each.line else None)),
    "best": ("Best pass rate", True, lambda each: _value(each.line.best if each.line else None)),
    "n": ("n", True, lambda each: each.line.best.n if each.line and each.line.best else None),
    "size": ("Here", True, lambda each: each.view.holding.size),
    "left_out": ("Left out", True, lambda each: each.view.left_out.size if each.view.left_out.entries else None),
}
"""By their keys: the text of the head, whether the column has numbers, and what it is sorted by (None: last)."""


class _Kept(Immutable):
    source: Source
    views: tuple[ExperimentView, ...]
    at: float


_kept: list[_Kept] = []


async def values(source: Source, request: Request) -> dict[str, object]:
    """Return the values of the template; raise `HTTPException` for a question that can't be answered."""
    question = _question(request)

    def answer(connection: Connection, reader: ExperimentReader) -> dict[str, object]:
        if not _kept or _kept[0].source is not source or time.monotonic() - _kept[0].at > _KEPT_FOR:
            _kept[:] = [_Kept(source, tuple(reader.views(connection)), time.monotonic())]
        return shown(_kept[0].views, question)

    return await reading.read(source, answer)


def _question(request: Request) -> Question:
    query = request.query_params
    given = {name: query.get(name, "").strip() for name in ("q", "model", "hardware", "state", "evals")}
    chosen = tuple(dict.fromkeys(query.getlist("id")))[:MOST_COMPARED]
    if max(map(len, (*given.values(), *chosen))) > _LONGEST:
        raise HTTPException(400, "a filter is too long")
    sort = query.get("sort", "") or "-date"
    if sort.removeprefix("-") not in _COLUMNS:
        raise HTTPException(400, f"the table is sorted by one of {', '.join(_COLUMNS)}")
    return Question(sort=sort, text=given.pop("q"), chosen=chosen, **given)


def shown(views: Sequence[ExperimentView], question: Question) -> dict[str, object]:
    """Return the values of the template for these experiments."""
    settings = _settings(views)
    setting = question.evals if question.evals in settings else next(iter(settings), "")
    found = [_Found(view, _line(view, setting)) for view in views]
    matching = [each for each in found if _matches(each.view, question)]
    ordered = _sorted(matching, question.sort)[:MOST]
    scale = _scale(each.line for each in ordered)
    states = Counter(reading.state_of(view)[1] for view in views)
    return {
        "title": "Experiments",
        "rows": [_row(each, scale, question) for each in ordered],
        "more": len(matching) - len(ordered),
        "total": len(views),
        "about": _about(views, matching),
        "columns": [_column(key, question) for key in _COLUMNS],
        "question": question,
        "text": words.told(question.text, _LONGEST),
        "models": _values(view.part("model") for view in views),
        "hardware": _values(view.part("hardware") for view in views),
        "states": sorted(states),
        "settings": settings,
        "setting": setting,
        "scale": scale,
        "grid": "" if scale is None else "".join(f"M{at} 0V1" for at, _ in scale.ticks),
        "width": WIDTH,
        "drop": [] if matching or not views else _what_to_drop(views, question),
        "most_compared": MOST_COMPARED,
    }


def _settings(views: Iterable[ExperimentView]) -> list[str]:
    """Return the settings with a pass rate, in words, those of the most experiments first."""
    lines = ({str(line.setting) for line in view.results.lines if line.best} for view in views)
    return [
        setting for setting, _ in Counter(each for line in lines for each in sorted(line)).most_common(_MOST_SETTINGS)
    ]


def _line(view: ExperimentView, setting: str) -> Line | None:
    return next((line for line in view.results.lines if str(line.setting) == setting), None)


def _matches(view: ExperimentView, question: Question) -> bool:
    wanted = question.text.casefold()
    names = (view.experiment.directory, *view.experiment.aliases, *(run.name for run in view.runs))
    return (
        (not wanted or any(wanted in name.casefold() for name in names))
        and question.model in {"", view.part("model")}
        and question.hardware in {"", view.part("hardware")}
        and question.state in {"", reading.state_of(view)[1]}
    )


def _what_to_drop(views: Sequence[ExperimentView], question: Question) -> list[tuple[str, str, str]]:
    """Return the filters without which something matches: each one's words, the number of matches, and the address."""
    found = []
    for field, words_of in (("text", "the name"), ("model", "Model"), ("hardware", "Hardware"), ("state", "State")):
        value = str(getattr(question, field))
        if value:
            others = Question(**{name: getattr(question, name) for name in Question.__struct_fields__} | {field: ""})
            number = sum(_matches(view, others) for view in views)
            if number:
                found.append((f"{words_of} \u201c{words.told(value, 80)}\u201d", words.number(number), others.url()))
    return found


def _sorted(found: Sequence[_Found], sort: str) -> list[_Found]:
    """Return the rows in order; those without a value are last either way."""
    key = _COLUMNS[sort.removeprefix("-")][2]
    known = [(value, each) for each in found if (value := key(each)) is not None]
    known.sort(key=lambda pair: pair[0], reverse=sort.startswith("-"))  # type: ignore[arg-type,return-value]
    return [each for _, each in known] + [each for each in found if key(each) is None]


def _value(each: Eval | None) -> float | None:
    return each.rate.value if each and each.rate else None


def _values(found: Iterable[str]) -> list[str]:
    return sorted(set(found), key=str.casefold)


def _about(views: Sequence[ExperimentView], matching: Sequence[_Found]) -> str:
    training = sum(view.current is not None and view.current.status is RunStatus.RUNNING for view in views)
    size = words.size(sum(view.holding.size for view in views))
    shown_of = f"{words.number(len(matching))} of " if len(matching) < len(views) else ""
    return f"{shown_of}{words.number(len(views))}, {words.number(training)} running, {size} here"


def _column(key: str, question: Question) -> Column:
    text, is_number, _ = _COLUMNS[key]
    is_this = question.sort.removeprefix("-") == key
    is_down = question.sort.startswith("-")
    first = "-" if is_number or key == "date" else ""
    next_sort = ("" if is_down else "-") + key if is_this else first + key
    return Column(
        text,
        key,
        question.url(sort=next_sort),
        ("descending" if is_down else "ascending") if is_this else "",
        is_number,
    )


def _row(found: _Found, scale: Scale | None, question: Question) -> Row:
    view, line = found.view, found.line
    icon, state = reading.state_of(view)
    best = line.best if line else None
    return Row(
        name=reading.name_of(view),
        directory=words.told(view.experiment.directory),
        model=words.told(view.part("model"), 60),
        hardware=words.told(view.part("hardware"), 60),
        steps=reading.steps_of(view),
        icon=icon,
        state=state,
        last=reading.rate_of(line.last if line else None),
        best=reading.rate_of(best),
        no_eval="" if best else "other settings" if view.best else "no eval yet",
        at="" if best is None else words.told(best.step if best.at is None else words.number(best.at), 20),
        n="" if best is None else words.number(best.n),
        plot=_plot(line, scale) if line and scale else None,
        size=words.size(view.holding.size),
        left_out=reading.left_out_of(view),
        is_chosen=view.experiment.id in question.chosen,
    )


def _rates(line: Line | None) -> list[Mean]:
    found = (line.base, line.best) if line else ()
    return [each.rate for each in found if each is not None and each.rate is not None]


def _scale(lines: Iterable[Line | None]) -> Scale | None:
    """Return the scale on which all of these have space; None without any."""
    rates = [rate for line in lines for rate in _rates(line)]
    if not rates:
        return None
    low = max(0.0, min(rate.value - rate.error for rate in rates))
    high = min(1.0, max(rate.value + rate.error for rate in rates))
    high = max(high, low + _GAPS[0])
    gap = next(gap for gap in _GAPS if (high - low) / gap < _MOST_TICKS or gap == _GAPS[-1])
    ticks = range(math.ceil(low / gap - 1e-9), math.floor(high / gap + 1e-9) + 1)
    bare = Scale(low, high, ())
    digits = 1 if gap >= 0.1 else 2  # noqa: PLR2004  (a tenth)
    return Scale(low, high, tuple((f"{bare.at(each * gap):g}", f"{each * gap:.{digits}f}") for each in ticks))


def _plot(line: Line, scale: Scale) -> Plot | None:
    best, base = line.best, line.base
    if best is None or best.rate is None:
        return None
    value, error = best.rate.value, best.rate.error
    x, left, right = scale.at(value), scale.at(value - error), scale.at(value + error)
    start = "" if base is None or base.rate is None else f"M{scale.at(base.rate.value):g} 5v10m0 -5H{x:g}"
    whiskers = f"M{left:g} 6v8m0 -4H{right:g}m0 -4v8"
    of_base = f"base model {base.rate.value:.3f}, " if base and base.rate else ""
    return Plot(start, whiskers, f"M{x:g} 10h0", f"{of_base}best {value:.3f}")
