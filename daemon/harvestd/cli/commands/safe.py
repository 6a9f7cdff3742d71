"""`harvestd safe` and `harvestd wait`: may a host be terminated? Both request a new verdict.

Neither reports *safe* from earlier knowledge: a full scan is made for each request.
"""

import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta

import click

from harvestd.catalogue.entries import VerdictRecord
from harvestd.cli import completion
from harvestd.cli.ask_verdict import (
    Subject,
    attended,
    subject_of,
    unattended,
    verdict_alone,
    verdict_now,
    verdict_when_safe,
)
from harvestd.cli.errors import run_interruptible
from harvestd.cli.flags import Flags, with_flags, with_json
from harvestd.cli.load_settings import settings_of, span
from harvestd.cli.output import verdict_page
from harvestd.cli.output.page import Page, print_json
from harvestd.cli.presence import daemon_document, daemon_pid, holder_of
from harvestd.cli.wait_requests import Line, one_line
from harvestd.errors import ExitCode, unwrapped
from harvestd.store.lock import Held
from harvestd.telemetry.log import configure

_KEYS = f"""\b
--json: host, identity, daemon {{running, pid}},
  {verdict_page.KEYS}
"""
_SAFE = f"""\b
Exit codes: 0 safe, or safe except for what verdict.accept_loss covers,
4 unknown host, 7 the daemon ended meanwhile, 10 not safe or not known.

{_KEYS}"""
_WAIT = f"""\b
Exit codes: 0 safe, as for `safe`, 4 unknown host, 7 the daemon ended,
10 not safe in time.

{_KEYS}"""

_Question = Callable[[Subject, Line], Awaitable[VerdictRecord]]


@click.command(epilog=_SAFE)
@click.argument("host", shell_complete=completion.hosts)
@with_json
@with_flags
@click.pass_obj
def safe(flags: Flags, host: str, *, as_json: bool) -> ExitCode:
    """Check whether HOST may be switched off, and why not.

    Also what would be lost, and what waiting costs. A running daemon makes a whole look for it now. Where none runs,
    this command makes one and fetches nothing: it can't know how long the box has been quiet, so that is not safe.
    """

    async def question(subject: Subject, line: Line) -> VerdictRecord:
        alone = daemon_pid(subject.settings) is None
        return await (verdict_alone if alone else verdict_now)(subject, line)

    return _told(flags, host, question, as_json=as_json)


@click.command(epilog=_WAIT)
@click.argument("host", shell_complete=completion.hosts)
@click.option("--timeout", metavar="TIME", default="1d", show_default=True, callback=span, help="Wait no longer.")
@with_json
@with_flags
@click.pass_obj
def wait(flags: Flags, host: str, timeout: timedelta, *, as_json: bool) -> ExitCode:
    """Return when HOST may be switched off.

    Beside a running daemon it only listens. Where none runs, it is the daemon for HOST alone until then, and brings
    everything home; where a command such as `once` is at work, it begins after that.
    """

    async def question(subject: Subject, line: Line) -> VerdictRecord:
        end = time.monotonic() + timeout.total_seconds()
        try:
            async with attended(subject, line, timeout):
                left = timedelta(seconds=max(0.0, end - time.monotonic()))
                return await verdict_when_safe(subject, line, left)
        except Held as held:
            return unattended(subject, held)

    return _told(flags, host, question, as_json=as_json)


def _told(flags: Flags, host: str, question: _Question, *, as_json: bool) -> ExitCode:
    settings = settings_of(flags)
    configure(flags.form_for_people, flags.log_level or "warning", stream=sys.stderr)
    subject = subject_of(settings, host)
    daemon = holder_of(settings)
    with one_line() as line, unwrapped():
        record = run_interruptible(question, subject, line)
    if as_json:
        made_now = verdict_page.document(record, watched=True)
        print_json({"host": host, "identity": subject.identity, "daemon": daemon_document(daemon), **made_now})
    else:
        verdict_page.write(Page(), record)
    return ExitCode.OK if record.verdict.is_safe else ExitCode.NOT_SAFE
