"""Reads experiments for the views, one question at a time in a thread, and names them in the page's words."""

from collections.abc import Callable
from typing import Final, TypeVar
from urllib.parse import quote

import anyio
import anyio.to_thread
from sqlalchemy import Connection
from starlette.exceptions import HTTPException

from harvestd.api.state import Source
from harvestd.catalogue import queries
from harvestd.convention.kinds import run_name
from harvestd.convention.structs import Immutable
from harvestd.documents.experiments import ExperimentReader, ExperimentView
from harvestd.errors import ExitCode, Fatal, HarvestError
from harvestd.page import words
from harvestd.page.host import STATUS
from harvestd.report.results import ResultsReader
from harvestd.report.scripts.evals import Eval

AnswerT = TypeVar("AnswerT")
LONGEST: Final = 120
_MONTHS: Final = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
_DATE: Final = 3
"""Numbers of a date."""


class Name(Immutable):
    """An experiment's name, and where its view is."""

    first: str
    """The part before the date; the whole directory where a person named it otherwise."""
    rest: str
    date: str
    """The day, with the time at which its newest run began."""
    url: str
    identifier: str


class Readings:
    """The reader of one daemon's experiments, which remembers what did not change."""

    def __init__(self, source: Source) -> None:
        self.source: Final = source
        self.reader: Final = ExperimentReader(source.root, ResultsReader(source.context.evals))
        self.limiter: Final = anyio.CapacityLimiter(1)


_last: list[Readings] = []
"""The readings of the daemon in this process; another one only in tests."""


async def read(source: Source, question: Callable[[Connection, ExperimentReader], AnswerT]) -> AnswerT:
    """Return the answer of a question to the catalogue and the data root, asked in a thread.

    Raise `HTTPException`: 404 for an unknown name, 400 for names that can't be used, 503 where neither can be read now.
    """
    if not source.context.catalogue_opened.is_set():
        raise HTTPException(503, "The daemon is starting: its catalogue is not open yet.")
    if not _last or _last[0].source is not source:
        _last[:] = [Readings(source)]
    readings = _last[0]

    def ask() -> AnswerT:
        with queries.questions(source.context.settings.state) as connection:
            return question(connection, readings.reader)

    try:
        return await anyio.to_thread.run_sync(ask, limiter=readings.limiter)
    except Fatal as error:
        status = {ExitCode.UNKNOWN_NAME: 404, ExitCode.CONFIGURATION: 400}.get(error.exit_code, 503)
        raise HTTPException(status, words.told(error)) from error
    except HarvestError as error:
        raise HTTPException(503, words.told(error)) from error


def name_of(view: ExperimentView) -> Name:
    """Return the name of an experiment."""
    experiment = view.experiment
    directory, first = experiment.directory, view.part("experiment_name")
    named = directory.startswith(f"{first}_")
    return Name(
        first=words.told(first if named else directory, LONGEST),
        rest=words.told(directory[len(first) :], LONGEST) if named else "",
        date=date_of(view),
        url=f"/experiments/{quote(experiment.id, safe='')}",
        identifier=experiment.id,
    )


def date_of(view: ExperimentView) -> str:
    """Return when an experiment began, such as "20 Aug 2025, 03:31": the time is in the name of its newest run."""
    run = run_name(view.newest_run)
    day, _, clock = (run.timestamp if run else view.part("date")).partition("_")
    parts = day.split("-")
    if len(parts) != _DATE or not all(part.isascii() and part.isdecimal() for part in parts):
        return words.told(view.part("date"), 20)
    year, month, date = map(int, parts)
    named = _MONTHS[month - 1] if 1 <= month <= len(_MONTHS) else str(month)
    at = f", {':'.join(clock.split('-')[:2])}" if clock else ""
    return f"{date}{words.SPACE}{named}{words.SPACE}{year}{at}"


def state_of(view: ExperimentView) -> tuple[str, str]:
    """Return the icon and the word of an experiment's state."""
    if view.experiment.gone:
        return "ring", "removed"
    return STATUS[view.current.status] if view.current else ("ring", "no run seen")


def steps_of(view: ExperimentView) -> str:
    """Return an experiment's progress, such as "41 of 64"; the number alone once it made all."""
    step, total = view.progress
    if step is None:
        return words.DASH
    return words.number(step) + (f" of {words.number(total)}" if total and total != step else "")


def rate_of(each: Eval | None) -> tuple[str, str]:
    """Return a pass rate and its error; empty where there is none."""
    if each is None or each.rate is None:
        return "", ""
    return f"{each.rate.value:.3f}", f"\u00b1{words.SPACE}{each.rate.error:.3f}"


def left_out_of(view: ExperimentView) -> str:
    """Return how much is left out; a lower bound where the size of a part is not known."""
    left = view.left_out
    if not left.entries:
        return words.DASH
    if not left.size:
        return "not known" if left.unknown else words.size(0)
    return f"\u2265{words.SPACE}{words.size(left.size)}" if left.unknown else words.size(left.size)
