"""`index.md` at the data root: all experiments, the newest first, with links to their READMEs.

It is written again when an experiment changed. As in a README, only the part between harvestd's two comments is
replaced, so notes above and below it stay; a file of that name without these comments is a person's, and stays as it
is.

The page ends in a comment with a hash of the records behind each row. A row whose records are the same is kept as it
is, so that one changed experiment does not cost reading the results of all.
"""

import hashlib
import re
import time
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Final
from urllib.parse import quote

import anyio
import anyio.to_thread

from harvestd.catalogue import queries
from harvestd.convention.paths import INDEX, README, LocalPath, encoded
from harvestd.convention.structs import Immutable
from harvestd.documents.experiments import ExperimentReader, ExperimentView, outlines
from harvestd.errors import DiskFull, HarvestError, Retry
from harvestd.harvest.change_feed import Debouncer
from harvestd.harvest.context import Context
from harvestd.report import readme
from harvestd.report.readme import Marks, cell
from harvestd.report.results import ResultsReader
from harvestd.report.scripts.evals import Eval
from harvestd.store.errors import Conflict, Damaged, Refused
from harvestd.store.remove import write_own
from harvestd.store.root import DataRoot
from harvestd.telemetry.events import Event
from harvestd.telemetry.log import get_logger

_PAGE: Final = LocalPath((INDEX,))
EVERY: Final = 60.0
"""The least seconds between two updates."""
QUIET: Final = 5.0
"""Seconds without a change after which it is updated before it is `EVERY` behind."""
MOST: Final = 1_000
"""Experiments that are listed; the others are counted."""
_LARGEST: Final = 8 << 20
"""Bytes; a larger file is not changed."""
_SLICE: Final = 0.1
"""Seconds for which results are read at a time."""
_REST: Final = 4.0
"""Seconds without reading for each second of it, beside the transfers of a daemon."""
_LAYOUT: Final = "1"
"""Changed with the form of a row, so that all are made again."""
_DIGITS: Final = 16
_MADE_AGAIN: Final = "0" * _DIGITS
"""Stands for the records of a row that lacks what could not be read, so that it is made again."""
_ROW: Final = "| ["
"""The beginning of each row of an experiment, and of no other line."""
_HASHES: Final = re.compile(r"^<!-- rows: ([0-9a-f ]*) -->$", re.MULTILINE)
_HEAD: Final = ["experiment", "run", "last pass rate", "best pass rate", "at step", "n", "evaluated on"]


class Row(Immutable):
    """The row of one experiment."""

    records: str
    """A hash of the records that it is made from."""
    text: str


def rendered(rows: Sequence[Row], more: int = 0) -> str:
    """Return the page's text with a line break at its end; `more` experiments have no row. Pure."""
    return "\n".join(_lines(rows, more))


def _lines(rows: Sequence[Row], more: int) -> Iterator[str]:
    yield "# Experiments\n"
    yield "Written by harvestd, and again when one of them changes; notes above and below this part stay as they are.\n"
    if rows:
        yield from readme.table(_HEAD, [])
        yield from (row.text for row in rows)
        yield (
            "\nPass rates are means over n questions, ± one standard error, with the settings that most of an"
            " experiment's evals have; the best step is the one with the highest.\n"
        )
    else:
        yield "No experiment is here yet.\n"
    if more:
        yield f"{more} earlier experiments are not listed: `harvestd experiments` lists all.\n"
    yield f"<!-- rows: {' '.join(row.records for row in rows)} -->\n"


def row_of(view: ExperimentView) -> Row:
    """Return the row of an experiment with its results. Pure."""
    directory = view.experiment.directory
    main, best = view.results.main, view.best
    cells = [
        f"[{cell(directory)}]({quote(encoded(directory))}/{README})",
        readme.state_of(view.runs[0]) if view.runs else "no run seen",
        _rate(view.last),
        _rate(best),
        cell(best.step) if best else "",
        str(best.n) if best else "",
        cell(str(main.setting)) if main else "",
    ]
    return Row(records_of(view) if view.results.is_whole else _MADE_AGAIN, readme.row(cells))


def _rate(each: Eval | None) -> str:
    return f"{each.rate.value:.4f} ± {each.rate.error:.4f}" if each and each.rate else ""


def records_of(view: ExperimentView) -> str:
    """Return a hash of the records that the row of an experiment is made from, its files included. Pure."""
    runs = [(run.name, run.step, run.config, run.final, run.problem) for run in view.runs]
    return _hash(_LAYOUT, view.experiment.directory, repr(view.holding), repr(runs))


def rows_in(page: bytes) -> Mapping[str, Row]:
    """Return the rows of a page by the hash of their records; none where a person changed the generated part. Pure."""
    text, marks = readme.text_in(page), readme.marks_in(page)
    hashes = _HASHES.findall(text)
    if marks is None or marks.facts != _hash(text) or len(hashes) != 1:
        return {}
    rows = [line for line in text.splitlines() if line.startswith(_ROW)]
    known = hashes[0].split()
    return (
        {records: Row(records, row) for records, row in zip(known, rows, strict=False)}
        if len(known) == len(rows)
        else {}
    )


def with_index(before: bytes | None, text: str) -> bytes | None:
    """Return the new content of the file; None where it stays as it is: unchanged, or a person's own. Pure."""
    if before is not None and readme.marks_in(before) is None:
        return None
    after = readme.with_part(before or b"", Marks(_hash(text)), text)
    return None if after == before else after


def _hash(*texts: str) -> str:
    return hashlib.sha256("\0".join(texts).encode("utf-8", "surrogatepass")).hexdigest()[:_DIGITS]


class IndexPage:
    """Keeps `index.md` about a minute behind the catalogue at most."""

    def __init__(self, context: Context, root: DataRoot) -> None:
        self._context = context
        self._root = root
        self._behind: Debouncer[LocalPath] = Debouncer(QUIET, EVERY)
        self._reader: ExperimentReader | None = None
        self._logged = ""
        """The last failure."""

    def changed(self) -> None:
        """Note that an experiment changed."""
        self._behind.note({_PAGE}, time.monotonic())

    async def update(self) -> None:
        """Write the page if it is due, beside other work. Raise `HaltedForSafety`."""
        if self._behind.due(time.monotonic()):
            await self._update(_REST)

    async def finish(self) -> None:
        """Write the page if anything changed, at the end of a single pass. Raise `HaltedForSafety`."""
        if self._behind:
            await self._update(0.0)

    async def _update(self, rest: float) -> None:
        self._behind.begin(_PAGE)
        self._behind.worked(_PAGE, time.monotonic())
        with self._context.service_failures.containing("index page"):
            try:
                await self._write(rest)
            except (DiskFull, Retry):
                # The transfers report this; the page is written when there is room, or a descriptor, again.
                self.changed()
            except (Conflict, Refused, Damaged) as error:
                self._log(error)

    async def _write(self, rest: float) -> None:
        before = await anyio.to_thread.run_sync(self._content)
        if before is not None and readme.marks_in(before) is None:
            return
        views = await anyio.to_thread.run_sync(self._outlines)
        rows = dict(rows_in(before or b""))
        missing = [view for view in views[:MOST] if records_of(view) not in rows]
        while missing:
            began = time.monotonic()
            await anyio.to_thread.run_sync(partial(self._make_some, missing, rows))
            await anyio.sleep(rest * (time.monotonic() - began))
        text = rendered([rows[records_of(view)] for view in views[:MOST]], max(0, len(views) - MOST))
        after = with_index(before, text)
        if after is not None:
            await anyio.to_thread.run_sync(write_own, self._root, _PAGE, after)

    def _outlines(self) -> list[ExperimentView]:
        """Return the experiments of which something is here."""
        with queries.questions(self._context.settings.state) as connection:
            return [view for view in outlines(connection) if view.holding.files and not view.experiment.gone]

    def _make_some(self, missing: list[ExperimentView], rows: dict[str, Row]) -> None:
        """Make rows for `_SLICE`, one at least; each goes from `missing` to `rows`."""
        reader = self._reader = self._reader or ExperimentReader(self._root, ResultsReader(self._context.evals))
        end = time.monotonic() + _SLICE
        with queries.questions(self._context.settings.state) as connection:
            while missing:
                view = missing.pop()
                rows[records_of(view)] = row_of(reader.with_results(connection, view))
                if time.monotonic() > end:
                    return

    def _content(self) -> bytes | None:
        try:
            return self._root.read(_PAGE, _LARGEST)
        except FileNotFoundError:
            return None

    def _log(self, error: HarvestError) -> None:
        """Log a failure as a warning; a repeated one for debugging only."""
        log = get_logger().bind(path=INDEX)
        (log.debug if self._logged == str(error) else log.warning)(
            Event.REPORT_FAILED, error=str(error), hint=error.hint or None
        )
        self._logged = str(error)
