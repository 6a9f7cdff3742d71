"""All experiments: a table that is sorted and filtered by its address, from which some are chosen to be compared.

Pass rates of different questions or settings are never put into one column: the table shows those of one setting, the
most frequent one unless another is chosen. The results are read in a thread, and kept for some seconds.
"""

import time
from collections import Counter
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlencode

import anyio.to_thread
from starlette.exceptions import HTTPException
from starlette.requests import Request

from harvestd.api.state import Source
from harvestd.catalogue import queries
from harvestd.convention.structs import Immutable
from harvestd.documents.experiments import ExperimentReader, ExperimentView
from harvestd.errors import HarvestError
from harvestd.page import host, words
from harvestd.page.rows import url_of
from harvestd.report.results import ResultsReader
from harvestd.report.scripts.evals import Eval
from harvestd.report.scripts.lines import Line

MOST: Final = 500
"""Experiments that are listed, the newest."""
_KEPT_FOR: Final = 5.0
_LONGEST: Final = 200
_FILTERS: Final = ("q", "model", "hardware", "state", "evals", "sort")
_WIDTH: Final = 140.0
_HEIGHT: Final = 16.0


class Rate(Immutable):
    """A pass rate in words."""

    value: str
    error: str


class Whisker(Immutable):
    """From the base model's pass rate to the best one, in a box of 140 by 16; None: not known."""

    base: float | None
    best: float
    low: float
    high: float


class ExperimentRow(Immutable):
    """One experiment in the table."""

    id: str
    name: str
    rest: str
    url: str
    date: str
    model: str
    hardware: str
    steps: str
    state: str
    icon: str
    last: Rate | None
    best: Rate | None
    at: str
    n: str
    here: str
    left_out: str
    whisker: Whisker | None
    keys: dict[str, Any]
    """What the columns are sorted by."""


class Head(Immutable):
    """A column's head."""

    text: str
    url: str
    arrow: str
    is_number: bool


_COLUMNS: Final = (
    ("name", "Name", False),
    ("date", "Date", False),
    ("model", "Model", False),
    ("hardware", "Hardware", False),
    ("steps", "Steps", True),
    ("state", "State", False),
    ("last", "Last pass@1", True),
    ("best", "Best pass@1", True),
)


class _Kept:
    """The experiments that were read last."""

    def __init__(self) -> None:
        self.at = 0.0
        self.views: list[ExperimentView] = []
        self.reader: ExperimentReader | None = None


_kept: Final = _Kept()


async def values(source: Source, request: Request) -> dict[str, object]:
    """Return the values of the template; raise `HTTPException` for filters that can't be used."""
    query = {name: request.query_params.get(name, "").strip() for name in _FILTERS}
    if any(len(value) > _LONGEST for value in query.values()):
        raise HTTPException(400, "a filter is too long")
    try:
        views = await _views(source)
    except HarvestError as error:
        raise HTTPException(503, words.told(error)) from error
    settings = Counter(str(line.setting) for view in views for line in view.results.lines)
    chosen = query["evals"] or next(iter(settings.most_common(1)), ("",))[0]
    sort = query["sort"].removeprefix("-")
    is_reversed = query["sort"].startswith("-")
    if sort not in {name for name, _, _ in _COLUMNS}:
        sort, is_reversed = "date", True
    scale = _scale(views, chosen)
    rows = [_row(view, chosen, scale) for view in views]
    found = [row for row in rows if _matches(row, query)]
    found.sort(key=lambda row: row.id)
    found.sort(key=lambda row: row.keys[sort], reverse=is_reversed)
    return {
        "title": "Experiments",
        "rows": found,
        "total": len(rows),
        "running": sum(row.state == "running" for row in rows),
        "here": words.size(sum(view.holding.size for view in views)),
        "query": {name: words.told(value) for name, value in query.items()},
        "can_compare": any(getattr(route, "path", "") == "/compare" for route in request.app.routes),
        "is_filtered": any(query[name] for name in ("q", "model", "hardware", "state")),
        "options": {name: sorted({str(row.keys[name]) for row in rows}) for name in ("model", "hardware", "state")},
        "settings": [setting for setting, _ in settings.most_common()],
        "chosen": chosen,
        "heads": [_head(column, query, sort, is_reversed=is_reversed) for column in _COLUMNS],
        "ticks": [(f"{tick:.1f}", _at(tick, scale)) for tick in _ticks(scale)],
    }


async def _views(source: Source) -> list[ExperimentView]:
    if not source.context.catalogue_opened.is_set():
        return []
    if time.monotonic() - _kept.at < _KEPT_FOR:
        return _kept.views
    if _kept.reader is None or _kept.reader.root is not source.root:
        _kept.reader = ExperimentReader(source.root, ResultsReader(source.context.evals))
    reader = _kept.reader

    def read() -> list[ExperimentView]:
        with queries.questions(source.context.settings.state) as connection:
            return reader.views(connection, MOST)

    _kept.views = await anyio.to_thread.run_sync(read)
    _kept.at = time.monotonic()
    return _kept.views


def _line(view: ExperimentView, setting: str) -> Line | None:
    return next((line for line in view.results.lines if str(line.setting) == setting), None)


def _row(view: ExperimentView, setting: str, scale: tuple[float, float]) -> ExperimentRow:
    name, directory = view.part("experiment_name"), view.experiment.directory
    line, (step, total) = _line(view, setting), view.progress
    last, best = (None, None) if line is None else (line.last, line.best)
    icon, state = ("dashes", "no run") if view.current is None else host.STATUS[view.current.status]
    made = words.DASH if step is None else words.number(step)
    newest = max(view.runs, key=lambda run: run.name, default=None)
    size = view.left_out.size
    return ExperimentRow(
        id=view.experiment.id,
        name=words.told(name, 120),
        rest=words.told(directory.removeprefix(name), 200)
        if directory.startswith(name)
        else words.told(directory, 200),
        url="" if newest is None else url_of(newest),
        date=words.told(view.part("date"), 40),
        model=words.told(view.part("model"), 80),
        hardware=words.told(view.part("hardware"), 80),
        steps=made if not total or total == step else f"{made} of {words.number(total)}",
        state=state,
        icon=icon,
        last=_rate(last),
        best=_rate(best),
        at="" if best is None else words.told(best.step, 20),
        n="" if best is None else words.number(best.n),
        here=words.size(view.holding.size),
        left_out=words.size(size) if size else words.DASH,
        whisker=None if line is None or best is None else _whisker(line.base, best, scale),
        keys={
            "name": name.casefold(),
            "date": (view.part("date"), view.newest_run),
            "model": view.part("model"),
            "hardware": view.part("hardware"),
            "steps": step or -1,
            "state": state,
            "last": -1.0 if last is None or last.rate is None else last.rate.value,
            "best": -1.0 if best is None or best.rate is None else best.rate.value,
        },
    )


def _rate(found: Eval | None) -> Rate | None:
    if found is None or found.rate is None:
        return None
    return Rate(f"{found.rate.value:.3f}", f"\u00b1 {found.rate.error:.3f}")


def _scale(views: Iterable[ExperimentView], setting: str) -> tuple[float, float]:
    """Return the least and the greatest pass rate to draw, in tenths."""
    lines = [line for view in views if (line := _line(view, setting)) is not None]
    rates = [each.rate.value for line in lines for each in (line.base, line.best) if each is not None and each.rate]
    if not rates:
        return 0.0, 1.0
    low, high = int(min(rates) * 10) / 10, min(1.0, (int(max(rates) * 10) + 1) / 10)
    return max(0.0, low), max(high, low + 0.1)


def _ticks(scale: tuple[float, float]) -> list[float]:
    first, last = round(scale[0] * 10), round(scale[1] * 10)
    step = 2 if last - first > 3 else 1  # noqa: PLR2004  (at most four ticks)
    return [tenth / 10 for tenth in range(first, last + 1, step)]


def _at(value: float, scale: tuple[float, float]) -> float:
    low, high = scale
    return round(4 + (_WIDTH - 8) * (min(high, max(low, value)) - low) / (high - low), 1)


def _whisker(base: Eval | None, best: Eval, scale: tuple[float, float]) -> Whisker | None:
    if best.rate is None:
        return None
    value, error = best.rate.value, best.rate.error
    start = None if base is None or base.rate is None else _at(base.rate.value, scale)
    return Whisker(start, _at(value, scale), _at(value - error, scale), _at(value + error, scale))


def _matches(row: ExperimentRow, query: dict[str, str]) -> bool:
    text = query["q"].casefold()
    if text and text not in f"{row.name}{row.rest}".casefold():
        return False
    return all(not query[name] or str(row.keys[name]) == query[name] for name in ("model", "hardware", "state"))


def _head(column: tuple[str, str, bool], query: dict[str, str], sort: str, *, is_reversed: bool) -> Head:
    name, text, is_number = column
    is_sorted = name == sort
    wanted = name if (is_sorted and is_reversed) else f"-{name}"
    rest = {key: value for key, value in query.items() if value and key != "sort"}
    arrow = "" if not is_sorted else "descending" if is_reversed else "ascending"
    return Head(text, f"/experiments?{urlencode({**rest, 'sort': wanted})}", arrow, is_number)
