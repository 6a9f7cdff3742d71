"""Requests by hand: what can be requested beyond the rules, and the wait until it is settled.

Only the catalogue is read: a running daemon settles the requests.
"""

import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from sqlalchemy import Connection

from harvestd.catalogue import queries
from harvestd.cli import show_details
from harvestd.cli.daemon import daemon_pid
from harvestd.cli.output import units
from harvestd.cli.output.page import Column, Row, console_on
from harvestd.convention.kinds import Kind, checkpoint_step
from harvestd.convention.scan.evals import NO_RECORDS
from harvestd.convention.scan.model import LeftOut
from harvestd.convention.structs import Immutable
from harvestd.errors import ExitCode, Fatal
from harvestd.planning.records import FileRecord, RunRecord
from harvestd.planning.requests import RECORDS, Request, RunRequests, combine_requests
from harvestd.planning.retention import POLICY
from harvestd.settings import Settings

OFFER_COLUMNS = (
    Column("WHAT"),
    Column("FILES", "right"),
    Column("SIZE", "right"),
    Column("HOST"),
    Column("ASK FOR IT WITH", wide=True),
)
_CHECKPOINTS = "training_state"


class Fetchable(Immutable):
    """One set of files that a rule leaves out on hosts."""

    thing: str
    """`records`, or a checkpoint's directory."""
    files: int
    size: int | None
    """Bytes; None where they are not counted."""
    hosts: tuple[str, ...]


class Subject(Immutable):
    """A run, and everything that is known about requests for it."""

    runs: tuple[RunRecord, ...]
    """Its records: one for each storage that shows it, at least one."""
    fetchables: tuple[Fetchable, ...]
    here: tuple[FileRecord, ...]
    """Local records and checkpoints."""
    requests: tuple[Request, ...]
    """All requests ever made for the run, oldest first."""
    is_taken_away: bool
    """Whether a person removed its experiment's directory."""

    @property
    def run(self) -> RunRecord:
        """The record that represents it; a request through one record holds for all."""
        return self.runs[0]

    @property
    def in_force(self) -> RunRequests:
        """The requests in force."""
        return combine_requests(self.requests)

    def fetchable(self, thing: str) -> Fetchable | None:
        """Return the offer of this name."""
        return next((each for each in self.fetchables if each.thing == thing), None)

    def files_here(self, thing: str) -> list[FileRecord]:
        """Return the local files of this offer."""
        if thing == RECORDS:
            return [file for file in self.here if file.kind is Kind.RECORDS]
        above = tuple(f"{run.place}/{_CHECKPOINTS}/{thing}/" for run in self.runs)
        return [file for file in self.here if file.place.startswith(above)]


def subject(connection: Connection, name: str) -> Subject:
    """Return the run called `name`, as `show` finds it; raise `Fatal` (4) where there is none, or more than one."""
    shown = show_details.find(connection, name)
    if not shown.runs:
        raise Fatal(
            f"no host ever showed a run of {name}",
            hint="only its evals are known; `harvestd runs` lists what is",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    return Subject(
        runs=shown.runs,
        fetchables=tuple(_fetchables(shown.runs, shown.left_out)),
        here=tuple(file for file in shown.files if file.kind in {Kind.RECORDS, Kind.CHECKPOINT}),
        requests=shown.requests,
        is_taken_away=shown.experiment is not None and shown.experiment.gone,
    )


def _fetchables(runs: Sequence[RunRecord], left_out: Iterable[tuple[str, LeftOut]]) -> list[Fetchable]:
    gathered: dict[str, list[tuple[str, LeftOut]]] = {}
    for host, each in left_out:
        thing = _thing(runs, each) if each.gone_at is None else ""
        if thing:
            gathered.setdefault(thing, []).append((host, each))
    return [_fetchable(thing, gathered[thing]) for thing in sorted(gathered, key=_order)]


def _fetchable(thing: str, found: Sequence[tuple[str, LeftOut]]) -> Fetchable:
    sizes = [each.size for _, each in found]
    known = [size for size in sizes if size is not None]
    return Fetchable(
        thing,
        sum(each.entries for _, each in found),
        sum(known) if len(known) == len(sizes) else None,
        tuple(sorted({host for host, _ in found})),
    )


def _thing(runs: Sequence[RunRecord], left_out: LeftOut) -> str:
    if left_out.reason.startswith(NO_RECORDS):
        return RECORDS
    above, _, name = left_out.place.rpartition("/")
    is_checkpoint = left_out.reason.startswith(POLICY) and above in {f"{run.place}/{_CHECKPOINTS}" for run in runs}
    return name if is_checkpoint and checkpoint_step(name) else ""


def _order(thing: str) -> tuple[bool, int, str]:
    step = checkpoint_step(thing) or ""
    return (thing != RECORDS, int(step) if step.isdigit() else 0, thing)


def offer_rows(found: Subject) -> list[Row]:
    """Return a row of `COLUMNS` for each offer."""
    return [
        (
            each.thing,
            str(each.files),
            units.size(each.size),
            ", ".join(each.hosts),
            "--records" if each.thing == RECORDS else f"--checkpoint {each.thing}",
        )
        for each in found.fetchables
    ]


def offer_documents(found: Subject) -> list[dict[str, object]]:
    """Return the offers for a JSON document; sizes in bytes."""
    return [
        {"what": each.thing, "files": each.files, "bytes": each.size, "hosts": list(each.hosts)}
        for each in found.fetchables
    ]


_ASK_EVERY = 0.5
"""Seconds between two queries of the catalogue."""


def answers(settings: Settings, made: Sequence[int]) -> list[Request]:
    """Return the present state of these requests."""
    with queries.questions(settings.state) as connection:
        return [request for request in queries.requests(connection) if request.id in set(made)]


def wait_until_settled(settings: Settings, found: Subject, made: Sequence[int], timeout: timedelta) -> None:
    """Wait until these requests are settled or the time is over; show the progress on a terminal.

    Raise `Fatal` (7) where the daemon ends: no process would settle them.
    """
    end = time.monotonic() + timeout.total_seconds()
    with one_line() as line:
        while True:
            requests = answers(settings, made)
            left = end - time.monotonic()
            if left <= 0 or not any(request.is_open for request in requests):
                return
            if daemon_pid(settings) is None:
                raise Fatal(
                    "the daemon ended before all of it was here",
                    hint="it stays asked for: the next `harvestd run` or `harvestd once` goes on",
                    exit_code=ExitCode.LOCKED,
                )
            line.say(_progress(settings, found, requests))
            time.sleep(min(_ASK_EVERY, left))


def _progress(settings: Settings, found: Subject, requests: Sequence[Request]) -> str:
    with queries.questions(settings.state) as connection:
        now = subject(connection, found.run.id)
    here = [file for request in requests for file in now.files_here(request.thing)]
    before = [file for request in requests for file in found.files_here(request.thing)]
    fetchables = [fetchable for request in requests if (fetchable := found.fetchable(request.thing))]
    files = len(before) + sum(fetchable.files for fetchable in fetchables)
    size = sum(file.size for file in before) + sum(fetchable.size or 0 for fetchable in fetchables)
    came = units.size(sum(file.size for file in here))
    return f"{len(here)} of {units.count(files, 'file')} here, {came} of {units.size(size)}"


class Line(Protocol):
    """One line of standard error."""

    def say(self, text: str) -> None:
        """Replace the text of the line."""


class _Nowhere:
    def say(self, text: str) -> None:
        """Show nothing: there is no terminal."""


@contextmanager
def one_line() -> Iterator[Line]:
    """Yield one line of standard error that is rewritten repeatedly; off a terminal nothing is shown."""
    console = console_on(sys.stderr)
    if console is None or console.is_dumb_terminal:
        yield _Nowhere()
        return
    with console.status("") as status:

        class Spinning:
            def say(self, text: str) -> None:
                status.update(text)

        yield Spinning()
