"""Two to eight experiments beside each other: one table that is legend and result at once, and what differs in them.

The figures are those of `harvestd compare`.

Each experiment has a letter, and with it a colour, a dash and a marker; from the fifth on the markers are hollow.
"""

from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import urlencode

import anyio.to_thread
from sqlalchemy import Connection
from starlette.exceptions import HTTPException
from starlette.requests import Request

from harvestd.api.state import Source
from harvestd.convention.structs import Immutable
from harvestd.documents.comparison import FEWEST, MOST, Compared, Comparison, compare
from harvestd.documents.comparison import Row as Result
from harvestd.documents.comparison import Table as Results
from harvestd.documents.experiments import ExperimentReader
from harvestd.page import plots, words
from harvestd.page.experiments import charts, reading
from harvestd.page.run.strips import NAMES
from harvestd.report.comparison import Difference, Value, Word, same_keys
from harvestd.report.scripts.lines import powers_first

_LETTERS: Final = "ABCDEFGH"
_LONGEST: Final = 200
_MOST_TABLES: Final = 8
_FIRST_SAME: Final = 12
_MOST_SAME: Final = 300
_DASHES: Final = 4
_MARKERS: Final = (
    "M-2.5 0a2.5 2.5 0 1 0 5 0a2.5 2.5 0 1 0 -5 0z",
    "M-2.25 -2.25h4.5v4.5h-4.5z",
    "M0 -3l3 5.25h-6z",
    "M0 -3.25L3.25 0L0 3.25L-3.25 0z",
)
_WORDS: Final = {
    Word.BETTER: ("\u25b2", "better"),
    Word.WITHIN_ERROR: ("=", "within error"),
    Word.WORSE: ("\u25bc", "worse"),
}
_MOST_NEWEST: Final = 4
"""Keys of the log with a column."""


class Legend(Immutable):
    """How an experiment is marked in tables and plots."""

    letter: str
    number: int
    """Of its colour, from 1."""
    dash: int
    marker: str
    """An SVG path around the origin."""
    hollow: bool


class Head(Immutable):
    """One experiment."""

    legend: Legend
    name: reading.Name
    directory: str
    steps: str
    newest: tuple[str, ...]
    """The newest values of its log."""


class Line(Immutable):
    """The results of an experiment with one setting."""

    head: Head
    best: tuple[str, str]
    best_at: str
    is_best: bool
    last: tuple[str, str]
    last_at: str
    n: str
    passed: str
    difference: str
    error: str
    sign: str
    word: str
    about: str
    """How the difference was computed."""


class Table(Immutable):
    """The results with one setting."""

    setting: str
    lines: tuple[Line, ...]
    k: int | None
    """Of the column pass@k; None: there is none."""


class Differing(Immutable):
    """One key of which the values differ."""

    key: str
    cells: tuple[tuple[str, str], ...]
    """Each one's value, and its class: equal or different to the first, or none."""


class _Read(Immutable):
    """What was read of the experiments."""

    comparison: Comparison
    same: tuple[tuple[str, Value], ...]
    """The keys with one value in all configurations."""


async def values(source: Source, request: Request) -> dict[str, object]:
    """Return the values of the template; raise `HTTPException` for what can't be compared."""
    names = list(dict.fromkeys(each.strip() for each in request.query_params.getlist("id")))
    if any(len(name) > _LONGEST for name in names):
        raise HTTPException(400, "a name is too long")
    if not FEWEST <= len(names) <= MOST or not source.ready.is_set():
        raise HTTPException(
            404, f"{words.count(len(names), 'experiment')} can't be compared: tick {FEWEST} to {MOST} in Experiments."
        )
    found = await reading.read(source, partial(_read, names))
    series = await charts.read(source, [each.view.experiment.id for each in found.comparison.experiments])
    return await anyio.to_thread.run_sync(_shown, found, series)


def _read(names: Sequence[str], connection: Connection, reader: ExperimentReader) -> _Read:
    found = compare(connection, reader, names)
    known = [reader.known(connection, each.view) for each in found.experiments]
    configurations = [reader.results.configuration(reader.root, each) if reader.root else None for each in known]
    return _Read(found, tuple(same_keys(configurations)))


def _shown(found: _Read, series: Sequence[Any]) -> dict[str, object]:
    comparison = found.comparison
    keys = charts.keys_of(series)[:_MOST_NEWEST]
    heads = [
        _head(place, each, [charts.newest(curves["curves"].get(key)) for key in keys])
        for place, (each, curves) in enumerate(zip(comparison.experiments, series, strict=True))
    ]
    tables = [_table(heads, each) for each in comparison.tables[:_MOST_TABLES]]
    same = [(words.told(key), _value(value)) for key, value in found.same]
    ids = [head.name.identifier for head in heads]
    return {
        "title": f"{len(heads)} experiments",
        "heads": heads,
        "first": tables[0] if tables else None,
        "others": tables[1:],
        "more_settings": comparison.more_settings + max(0, len(comparison.tables) - _MOST_TABLES),
        "training": [NAMES.get(key, key) for key in keys],
        "charts": charts.drawn(comparison, series),
        "width": plots.WIDTH,
        "height": charts.HEIGHT,
        "differing": list(_differing(comparison)),
        "more_keys": comparison.more_keys,
        "keys": len(same) + len(comparison.configuration) + comparison.more_keys,
        "same": same[:_FIRST_SAME],
        "more_same": same[_FIRST_SAME:_MOST_SAME],
        "without": [
            head.legend.letter for head, each in zip(heads, comparison.experiments, strict=True) if not each.configured
        ],
        "choose": f"/experiments?{urlencode([('id', each) for each in ids])}",
    }


def legend(place: int) -> Legend:
    """Return how the experiment at this place is marked."""
    return Legend(_LETTERS[place], place + 1, place % _DASHES, _MARKERS[place % _DASHES], place >= _DASHES)


def _head(place: int, each: Compared, newest: Sequence[str]) -> Head:
    return Head(
        legend=legend(place),
        name=reading.name_of(each.view),
        directory=words.told(each.name),
        steps=reading.steps_of(each.view),
        newest=tuple(newest),
    )


def _table(heads: Sequence[Head], found: Results) -> Table:
    ks = {k for row in found.rows if row.line and row.line.best for k in row.line.best.ks}
    # pass@8 beside the pass rate; where it is missing, the next power of two.
    k = next((each for each in (8, *powers_first(ks)) if each in ks and each > 1), None)
    rates = [row.line.best.rate.value for row in found.rows if row.line and row.line.best and row.line.best.rate]
    highest = max(rates, default=None)
    lines = [_line(head, row, k, highest) for head, row in zip(heads, found.rows, strict=True)]
    return Table(words.told(found.setting), tuple(lines), k)


def _line(head: Head, row: Result, k: int | None, highest: float | None) -> Line:
    best, last = (row.line.best, row.line.last) if row.line else (None, None)
    passed = best.passed(k) if best and k else None
    sign, word = _WORDS[row.difference.word] if row.difference and row.difference.word else ("", "")
    return Line(
        head=head,
        best=reading.rate_of(best),
        best_at=words.told(best.step, 20) if best else "",
        is_best=best is not None and best.rate is not None and best.rate.value == highest,
        last=reading.rate_of(last),
        last_at=words.told(last.step, 20) if last else "",
        n=words.number(best.n) if best else "",
        passed=f"{passed.value:.3f}" if passed else "",
        difference="" if row.difference is None else _signed(row.difference.value),
        error="" if row.difference is None else f"\u00b1{words.SPACE}{row.difference.error:.3f}",
        sign=sign,
        word=word,
        about="" if row.difference is None else _how(row.difference),
    )


def _signed(value: float) -> str:
    return f"{'+' if value >= 0 else words.MINUS}{abs(value):.3f}"


def _how(found: Difference) -> str:
    return f"step {words.number(found.step)}" + ("" if found.paired else ", not paired")


def _differing(found: Comparison) -> Iterable[Differing]:
    parts = [(name, tuple(each.view.part(name) for each in found.experiments)) for name in ("model", "hardware")]
    known = {key for key, _ in found.configuration}
    for name, values_of in parts:
        if name not in known and len(set(values_of)) > 1:
            yield Differing(name, _cells(values_of, [True] * len(values_of)))
    for key, values_of_key in found.configuration:
        yield Differing(words.told(key), _cells(values_of_key, [each.configured for each in found.experiments]))


def _cells(found: Sequence[Value], configured: Sequence[bool]) -> tuple[tuple[str, str], ...]:
    """Return the values with their classes: what is equal to the first one recedes."""
    first = found[0]
    return tuple(
        ("not known", "none")
        if not is_known
        else (_value(value), "first" if place == 0 else "equal" if value == first else "different")
        for place, (value, is_known) in enumerate(zip(found, configured, strict=True))
    )


def _value(value: Value) -> str:
    if value is None:
        return "not set"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return f"{value:g}".replace("-", words.MINUS) if value < 0 else f"{value:g}"
    return words.told(value, 80)
