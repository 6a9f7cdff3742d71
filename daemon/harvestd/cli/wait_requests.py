"""Wait beside a running daemon until requests are settled. Only the catalogue is read."""

import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Protocol

from harvestd.catalogue import queries
from harvestd.cli import offers
from harvestd.cli.offers import Subject
from harvestd.cli.output import units
from harvestd.cli.output.page import console_on
from harvestd.cli.presence import daemon_pid
from harvestd.errors import ExitCode, Fatal
from harvestd.planning.requests import Request
from harvestd.settings import Settings

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
        now = offers.subject(connection, found.run.id)
    here = [file for request in requests for file in now.files_here(request.thing)]
    before = [file for request in requests for file in found.files_here(request.thing)]
    offered = [offer for request in requests if (offer := found.offer(request.thing))]
    files = len(before) + sum(offer.files for offer in offered)
    size = sum(file.size for file in before) + sum(offer.size or 0 for offer in offered)
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
