"""`harvestd events`, `pause`, `resume` and `scan`: what the running daemon reports, and what it is asked for.

Lines are those of the daemon's own log, in the same two forms. A daemon that restarts is waited for; events that it
then repeats are not shown twice.
"""

import sys
import time
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Protocol

import click

from harvestd.cli.completion import hosts
from harvestd.cli.daemon import Absent, DaemonClient
from harvestd.cli.errors import answering, print_warning
from harvestd.cli.flags import Flags, settings_of, span, with_flags, with_json
from harvestd.cli.output.page import Page, print_json
from harvestd.errors import ExitCode, Fatal
from harvestd.telemetry.log import renderer_for

_NEWEST: Final = 50
AGAIN: Final = 1.0
"""Seconds between two attempts to reach a daemon again."""
_EPILOG = """\b
Exit codes: 0 (Ctrl-C too), 7 no daemon runs.

\b
--json: one event a line, with the keys of the log: timestamp, level, event,
  and what it is about: host, run_id, path, …
"""

Received = dict[str, Any]
Filters = Mapping[str, Any]
"""By the name of their option; the values are texts."""


class EventSource(Protocol):
    """The part of `DaemonClient` that is used here."""

    def events(self, *, follow: bool = False, since: int | None = None, **filters: str) -> Iterator[Received]:
        """Yield events."""


@click.command(epilog=_EPILOG)
@click.option("-f", "--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("-n", "--newest", metavar="N", type=click.IntRange(0), default=_NEWEST, help="Begin with so many (50).")
@click.option("--host", metavar="HOST", shell_complete=hosts, help="Of this host alone.")
@click.option("--event", metavar="GLOB", help='Of these names alone, e.g. "run.*".')
@click.option("--level", type=click.Choice(("debug", "info", "warning", "error")), help="From this level on.")
@click.option("--since", metavar="SPAN", callback=span, default="3650d", help="Of this last time alone, e.g. 10m.")
@click.option("--json", "as_json", is_flag=True, help="JSON lines, on a terminal too.")
@with_flags
@click.pass_obj
def events(
    flags: Flags, /, *, follow: bool, newest: int, since: timedelta, as_json: bool, **filters: str | None
) -> ExitCode:
    """Show what the daemon told lately; -f goes on.

    Readable lines on a terminal, JSON lines off one. What happened before the daemon started, its log still knows.
    """
    client = DaemonClient(settings_of(flags))
    line = renderer_for("json" if as_json else flags.log_format, sys.stdout)
    wanted = {name: value for name, value in filters.items() if value}
    try:
        for event in received_events(client, newest, since, wanted, follow=follow):
            told = {key: value for key, value in event.items() if key != "id"}
            _write(str(line(None, str(event.get("level", "")), told)))
    except KeyboardInterrupt:
        return ExitCode.OK
    return ExitCode.OK


def received_events(
    client: EventSource, newest: int, lately: timedelta, filters: Filters, *, follow: bool
) -> Iterator[Received]:
    """Yield the newest events, `newest` at most and from the span `lately`, and with `follow` all later ones.

    Raise `Fatal` (7) where no daemon answers at first.
    """
    begin = (datetime.now(UTC) - lately).isoformat(timespec="microseconds").replace("+00:00", "Z")
    try:
        remembered = list(client.events(**filters))
    except Absent as error:
        raise Fatal(
            "no daemon answers",
            hint="what it told stands in its log: `journalctl -u harvestd`, or `journalctl --user -u harvestd`",
            exit_code=ExitCode.LOCKED,
        ) from error
    yield from deque((event for event in remembered if event["timestamp"] >= begin), newest)
    if follow:
        yield from _further(client, remembered, filters)


def _further(client: EventSource, remembered: list[Received], filters: Filters) -> Iterator[Received]:
    # RFC 3339 in UTC with a fixed number of digits: such texts sort by time.
    last, number = (remembered[-1]["timestamp"], remembered[-1]["id"]) if remembered else ("", None)
    is_reported = False
    while True:
        try:
            for event in client.events(follow=True, since=number, **filters):
                is_reported = False
                if number is not None or event["timestamp"] > last:
                    last = event["timestamp"]
                    yield event
        except Absent:
            if not is_reported:
                print_warning("no daemon answers; its events go on here once it does")
            is_reported = True
        # Another process numbers its events from the start again: its past ones are compared by time.
        number = None
        time.sleep(AGAIN)


def _write(line: str) -> None:
    with answering():
        sys.stdout.write(line.encode(sys.stdout.encoding, "backslashreplace").decode(sys.stdout.encoding) + "\n")
        sys.stdout.flush()


_CONTROL: Final = """\b
Exit codes: 0, 7 no daemon answers.

\b
--json: done
"""


@click.command(epilog=_CONTROL)
@with_json
@with_flags
@click.pass_obj
def pause(flags: Flags, *, as_json: bool) -> None:
    """Fetch nothing from now on, until `resume` or a restart.

    Hosts are still scanned, and verdicts made: a host with files that are not here is not safe. Partial files stay, and
    are resumed.
    """
    _command(flags, "pause", "the daemon is paused; `harvestd resume` goes on", as_json=as_json)


@click.command(epilog=_CONTROL)
@with_json
@with_flags
@click.pass_obj
def resume(flags: Flags, *, as_json: bool) -> None:
    """Fetch again after `pause`."""
    _command(flags, "resume", "the daemon fetches again", as_json=as_json)


@click.command(epilog=_CONTROL)
@with_json
@with_flags
@click.pass_obj
def scan(flags: Flags, *, as_json: bool) -> None:
    """Scan all hosts now, instead of at the next interval."""
    _command(flags, "scan", "the daemon scans all hosts now; `harvestd events -f` shows what it finds", as_json=as_json)


def _command(flags: Flags, name: str, text: str, *, as_json: bool) -> None:
    settings = settings_of(flags)
    if not settings.api.socket:
        raise Fatal("api.socket is false: the daemon takes no commands", exit_code=ExitCode.LOCKED)
    try:
        answer = DaemonClient(settings).command(name)
    except Absent as error:
        raise Fatal("no daemon answers", hint="`harvestd run` starts one", exit_code=ExitCode.LOCKED) from error
    if as_json:
        print_json(answer)
    else:
        Page().line(text)
