"""The results of experiments as pages: the table of all of them, two to eight beside each other, and these as CSV.

On a terminal that is too narrow for every column of the table, what the name of an experiment's directory repeats is
left out. Off a terminal all columns are there.
"""

import csv
import io
from collections.abc import Iterator, Sequence
from typing import Final

from harvestd.cli.output import units
from harvestd.cli.output.hosts_runs import cell_of
from harvestd.cli.output.page import Cell, Column, Page, Row, Styled
from harvestd.convention.log_rows import number
from harvestd.convention.structs import Immutable
from harvestd.documents.comparison import Compared, Comparison, Table
from harvestd.documents.experiments import ExperimentView
from harvestd.report.comparison import Difference, Value, Word
from harvestd.report.facts import KEYS
from harvestd.report.scripts.evals import Eval
from harvestd.telemetry.sanitize import escaped

_ROOMY: Final = 132
"""Columns of a terminal from which on the whole table fits."""
_WIDE: Final = 160
"""Columns from which on the settings fit beside it, which are in the table where they are not the same for all."""
_WORD_STYLES: Final = {Word.BETTER: "green", Word.WORSE: "red", Word.WITHIN_ERROR: "dim"}
_UNKNOWN: Final = Styled(units.NOTHING, "dim")


class _Shown(Immutable):
    """A column of the table of experiments."""

    column: Column
    roomy: bool = False
    """Whether it is left out on a narrow terminal."""


_EXPERIMENTS: Final = (
    _Shown(Column("NAME")),
    _Shown(Column("DATE")),
    _Shown(Column("MODEL"), roomy=True),
    _Shown(Column("HARDWARE"), roomy=True),
    _Shown(Column("STEP", "right"), roomy=True),
    _Shown(Column("STATE")),
    _Shown(Column("LAST", "right")),
    _Shown(Column("BEST", "right")),
    _Shown(Column("AT", "right"), roomy=True),
    _Shown(Column("N", "right"), roomy=True),
    _Shown(Column("SIZE", "right")),
    _Shown(Column("LEFT OUT", "right"), roomy=True),
)


def write_experiments(page: Page, views: Sequence[ExperimentView]) -> None:
    """Write the table, and with which settings the pass rates in it were measured."""
    roomy = page.width is None or page.width >= _ROOMY
    places = [place for place, each in enumerate(_EXPERIMENTS) if roomy or not each.roomy]
    settings = [str(view.results.main.setting) if view.results.main else "" for view in views]
    different = len({each for each in settings if each}) > 1
    columns = [_EXPERIMENTS[place].column for place in places]
    beside = different and (page.width is None or page.width >= _WIDE)
    if beside:
        columns.append(Column("EVALUATED ON", wide=True))
    if page.width is None:
        columns.append(Column("DIRECTORY", wide=True))
    rows: list[Row] = []
    for view, setting in zip(views, settings, strict=True):
        cells = _experiment(view)
        row = [cells[place] for place in places]
        if beside:
            row.append(setting or _UNKNOWN)
        if page.width is None:
            row.append(view.experiment.directory)
        rows.append(row)
    page.table(columns, rows)
    if any(settings):
        said = "the settings that most of its evals have" if different else next(filter(None, settings))
        page.line("")
        page.line("LAST and BEST are pass rates, ± one standard error", "dim")
        page.line(f"on {said}", "dim")


def _experiment(view: ExperimentView) -> tuple[Cell, ...]:
    """Return the cells of `_EXPERIMENTS`."""
    step, total = view.progress
    left_out = view.left_out
    size = units.size(left_out.size) if left_out.size else units.NOTHING
    best = view.best
    return (
        view.experiment.moved_to or view.part("experiment_name"),
        view.part("date"),
        view.part("model"),
        view.part("hardware"),
        f"{units.NOTHING if step is None else step}/{'?' if total is None else total}",
        _state(view),
        _rate(view.last),
        _rate(best),
        best.step if best else _UNKNOWN,
        str(best.n) if best else _UNKNOWN,
        units.size(view.holding.size),
        f"≥ {units.size(left_out.size)}" if left_out.unknown else size,
    )


def _state(view: ExperimentView) -> Styled:
    if view.experiment.gone:
        return Styled("taken away", "yellow")
    return Styled("no run seen", "dim") if view.current is None else cell_of(view.current)


def _rate(each: Eval | None) -> Cell:
    if each is None or each.rate is None:
        return _UNKNOWN
    return f"{each.rate.value:.3f} ± {each.rate.error:.3f}"


_LETTERS: Final = "ABCDEFGH"


def write_comparison(page: Page, comparison: Comparison) -> None:
    """Write what is compared, how its training went, its evals by setting, and the keys that differ."""
    letters = _LETTERS[: len(comparison.experiments)]
    page.table(
        (Column(""), Column("EXPERIMENT", wide=True)),
        [(letter, each.name) for letter, each in zip(letters, comparison.experiments, strict=True)],
    )
    page.heading("training, last values")
    page.table(
        (Column(""), Column("STEP", "right"), *(Column(key.upper(), "right") for key in KEYS), Column("STATE")),
        [_training(letter, each) for letter, each in zip(letters, comparison.experiments, strict=True)],
    )
    for table in comparison.tables:
        _write_evals(page, letters, table)
    if comparison.more_settings:
        page.line(f"{comparison.more_settings} more settings were evaluated: --json lists them")
    if not comparison.tables:
        page.heading("no evals are here")
    _write_configuration(page, letters, comparison)


def _training(letter: str, each: Compared) -> Row:
    step, total = each.view.progress
    last = each.training.last if each.training else {}
    values = [f"{last[key][0]:.4g}" if key in last else _UNKNOWN for key in KEYS]
    return (
        letter,
        f"{units.NOTHING if step is None else step}/{'?' if total is None else total}",
        *values,
        _state(each.view),
    )


_EVALS: Final = (
    Column(""),
    Column("BASE", "right"),
    Column("BEST", "right"),
    Column("AT", "right"),
    Column("LAST", "right"),
    Column("AT", "right"),
    Column("N", "right"),
)
_DIFFERENCES: Final = (
    Column(""),
    Column("DIFFERENCE TO A", "right"),
    Column("AT", "right"),
    Column("N", "right"),
    Column(""),
    Column("", wide=True),
)


def _write_evals(page: Page, letters: str, table: Table) -> None:
    page.heading(f"pass rate on {table.setting}")
    rows = list(zip(letters, table.rows, strict=True))
    page.table(
        _EVALS, [_evals(letter, row.line.base, row.line.best, row.line.last) for letter, row in rows if row.line]
    )
    differences = [(letter, row.difference) for letter, row in rows if row.difference]
    if differences:
        page.line("")
        page.table(_DIFFERENCES, [_difference(letter, found) for letter, found in differences])
    missing = [letter for letter, row in rows if row.line is None]
    if missing:
        page.line(f"{', '.join(missing)}: not evaluated so", "dim")


def _evals(letter: str, base: Eval | None, best: Eval | None, last: Eval | None) -> Row:
    newest = last or best or base
    return (
        letter,
        _rate(base),
        _rate(best),
        best.step if best else _UNKNOWN,
        _rate(last),
        last.step if last else _UNKNOWN,
        str(newest.n) if newest else _UNKNOWN,
    )


def _difference(letter: str, found: Difference) -> Row:
    word = Styled(found.word, _WORD_STYLES[found.word]) if found.word else _UNKNOWN
    how = "paired by question" if found.paired else "of the means: the questions can't be matched"
    return letter, f"{found.value:+.3f} ± {found.error:.3f}", str(found.step), str(found.n), word, how


def _write_configuration(page: Page, letters: str, comparison: Comparison) -> None:
    without = [letter for letter, each in zip(letters, comparison.experiments, strict=True) if not each.configured]
    page.heading("configuration, what differs" if comparison.configuration else "no difference in the configuration")
    keys = max((len(key) for key, _ in comparison.configuration), default=0)
    width = None if page.width is None else max(8, (page.width - keys) // len(letters) - 2)
    page.table(
        (Column("KEY"), *map(Column, letters)),
        [(key, *(_value(value, width) for value in values)) for key, values in comparison.configuration],
    )
    if comparison.more_keys:
        page.line(f"{comparison.more_keys} more keys differ")
    if without:
        page.line(f"{', '.join(without)}: no config.yaml is here", "dim")


def _value(value: Value, width: int | None) -> Cell:
    text = text_of(value)
    if not text:
        return _UNKNOWN
    return text if width is None or len(text) <= width else f"{text[: width - 1]}…"


def text_of(value: Value) -> str:
    """Return a value of a configuration as it is written there; empty for one that is not set."""
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


_CSV: Final = (
    *("experiment", "state", "step", "total_steps", "dataset", "temperature", "top_p", "r", "subset"),
    *(f"{word}_{part}" for word in ("base", "best", "last") for part in ("step", "pass_rate", "error", "n")),
    *(f"difference_{part}" for part in ("step", "value", "error", "n", "paired", "word")),
)
_FORMULA: Final = ("=", "+", "-", "@")


def comparison_csv(comparison: Comparison) -> str:
    """Return a row for each experiment and setting, with the keys that differ in columns `config.KEY`."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*_CSV, *(_text(f"config.{key}") for key, _ in comparison.configuration)])
    for place, each in enumerate(comparison.experiments):
        configured = [_text(text_of(values[place])) for _, values in comparison.configuration]
        for figures in _figures(comparison, place):
            step, total = each.view.progress
            state = each.view.current.status.value if each.view.current else ""
            writer.writerow([_text(each.name), state, step, total, *figures, *configured])
    return text.getvalue()


def _figures(comparison: Comparison, place: int) -> Iterator[list[object]]:
    """Yield the cells of each setting that an experiment was evaluated with; without any, those of an empty one."""
    tables = [table for table in comparison.tables if table.rows[place].line is not None]
    for table in tables:
        row, setting = table.rows[place], table.setting
        line, found = row.line, row.difference
        cells: list[object] = [_text(setting.dataset or ""), *setting[1:]]
        for each in (line.base, line.best, line.last) if line else ():
            rate = each.rate if each else None
            cells += [_text(each.step), rate.value, rate.error, rate.n] if each and rate else [None] * 4
        compared = found and (found.step, found.value, found.error, found.n, found.paired, found.word)
        cells += compared or [None] * 6
        yield cells
    if not tables:
        yield [None] * (len(_CSV) - 4)


def _text(text: str) -> str:
    """Return a text of a host as a cell that no spreadsheet takes for a formula."""
    shown = escaped(text)
    return f"'{shown}" if shown.startswith(_FORMULA) and number(shown) is None else shown
