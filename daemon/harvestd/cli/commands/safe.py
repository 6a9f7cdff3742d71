"""`harvestd safe`, `wait` and `release`: may a host be terminated? Each requests a new verdict.

`harvestd safe` and `harvestd wait`: may a host be terminated? Both request a new verdict. Neither reports *safe* from
earlier knowledge: a full scan is made for each request.

`harvestd release`: terminate one cloud host on request, if nothing is lost with it. The checks are the daemon's own
except for its list and its rate. The confirmation comes first: the result of the checks must not become outdated
during a question.
"""

import sys
import time
from collections.abc import Awaitable, Callable
from datetime import timedelta
from functools import partial

import click

from harvestd.catalogue.entries import Decision, ReleaseOutcome, VerdictRecord
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
from harvestd.cli.daemon import daemon_document, daemon_pid, holder_of
from harvestd.cli.errors import run_interruptible
from harvestd.cli.flags import Flags, settings_of, span, with_flags, with_json
from harvestd.cli.output import verdict_page
from harvestd.cli.output.page import Page, print_json
from harvestd.cli.requests import Line, one_line
from harvestd.convention.structs import Immutable
from harvestd.documents import forms
from harvestd.errors import ExitCode, Fatal, unwrapped
from harvestd.harvest.host import passes
from harvestd.harvest.release.release import examined, release
from harvestd.inventory.host import Host
from harvestd.inventory.lambda_provider import is_rented
from harvestd.safety.verdict import Verdict
from harvestd.settings import Settings
from harvestd.store.lock import Held
from harvestd.telemetry.log import configure

_KEYS = f"""\b
--json: host, identity, daemon {{running, pid}},
  {forms.VERDICT_KEYS}
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

    Also what would be lost, and what waiting costs. A running daemon makes a full scan for it now. Where none runs,
    this command makes one and fetches nothing: it can't know how long the box has been quiet, so that is not safe.
    """

    async def question(subject: Subject, line: Line) -> VerdictRecord:
        alone = daemon_pid(subject.settings) is None
        return await (verdict_alone if alone else verdict_now)(subject, line)

    return _print_verdict(flags, host, question, as_json=as_json)


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

    return _print_verdict(flags, host, question, as_json=as_json)


def _print_verdict(flags: Flags, host: str, question: _Question, *, as_json: bool) -> ExitCode:
    settings = settings_of(flags)
    configure(flags.form_for_people, flags.log_level or "warning", stream=sys.stderr)
    subject = subject_of(settings, host)
    daemon = holder_of(settings)
    with one_line() as line, unwrapped():
        record = run_interruptible(question, subject, line)
    if as_json:
        made_now = forms.verdict_document(record, watched=True)
        print_json({"host": host, "identity": subject.identity, "daemon": daemon_document(daemon), **made_now})
    else:
        verdict_page.write(Page(), record)
    return ExitCode.OK if record.verdict.is_safe else ExitCode.NOT_SAFE


_RELEASE = f"""\b
Exit codes: 0 it is being terminated (--dry-run: it could be),
2 nobody confirmed it, 3 the cloud refused or gave no clear answer,
4 no box of the cloud is called so, 7 the daemon ended meanwhile,
10 not safe, not known, or not the box that the cloud names.

\b
--json: host, identity, released, outcome, why_not,
  {forms.VERDICT_KEYS}
"""


class _Result(Immutable):
    """The result of a call."""

    host: Host
    why_not: str
    """Why it is not being terminated, or may not be; empty where it is or may be."""
    record: VerdictRecord | None
    """The verdict, where one was made."""
    decision: Decision | None = None
    """The request to the cloud and its answer; None: there was no request."""

    @property
    def exit_code(self) -> ExitCode:
        """Return the exit code of the command."""
        if self.decision is None:
            return ExitCode.NOT_SAFE if self.why_not else ExitCode.OK
        return ExitCode.PARTIAL if self.why_not else ExitCode.OK


@click.command("release", epilog=_RELEASE)
@click.argument("host", shell_complete=completion.hosts)
@click.option("--yes", "confirmed", is_flag=True, help="Don't ask; needed off a terminal.")
@click.option("--dry-run", is_flag=True, help="Check everything, and terminate nothing.")
@with_json
@with_flags
@click.pass_obj
def release_command(flags: Flags, host: str, *, confirmed: bool, dry_run: bool, as_json: bool) -> ExitCode:
    """Terminate HOST, a box of the cloud, if it is safe.

    Its own disk ends with it, for good. A running daemon makes a full scan for the verdict now, and the box must be
    the instance that the cloud names; without a daemon nobody knows how long it has been quiet, and it stays. What
    [release] says is for the daemon alone.
    """
    settings = settings_of(flags)
    configure(flags.form_for_people, flags.log_level or "warning", stream=sys.stderr)
    with unwrapped():
        found = run_interruptible(_found, settings, host)
        if not (confirmed or dry_run):
            _confirm(found)
        with one_line() as line:
            answer = run_interruptible(partial(_release, settings, found, line, dry_run=dry_run))
    if as_json:
        print_json(_document(answer))
    else:
        _write(answer)
    return answer.exit_code


async def _found(settings: Settings, name: str) -> Host:
    (found,) = await passes.hosts_of(settings, [name])
    if not is_rented(found):
        raise Fatal(
            f"{name} is no box of the cloud",
            hint="switch it off where it is; `harvestd safe` says whether that is safe",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    return found


def _confirm(host: Host) -> None:
    """Prompt for a confirmation; raise `Fatal` (2) off a terminal and `Abort` where it is declined."""
    if not sys.stdin.isatty():
        raise Fatal("it can't be confirmed without a terminal", hint="--yes confirms it; --dry-run only checks")
    question = f"Terminate {host.name} ({host.identity}, {host.address}) for good if it is safe?"
    click.confirm(question, abort=True, err=True)


async def _release(settings: Settings, host: Host, line: Line, *, dry_run: bool) -> _Result:
    record: VerdictRecord | None = None

    async def judge(_: Host) -> Verdict:
        nonlocal record
        question = verdict_alone if daemon_pid(settings) is None else verdict_now
        record = await question(Subject(settings, host.name, host.identity), line)
        return record.verdict

    found = await examined(host, settings, judge)
    if found.hindrance or found.verdict is None or dry_run:
        return _Result(host, found.hindrance, record)
    decision = await release(host, found.verdict, settings)
    if decision.outcome is ReleaseOutcome.UNCLEAR:
        why = f"the cloud gave no clear answer, look at its list before you ask again: {decision.detail}"
    else:
        why = f"the cloud refuses: {decision.detail}" if decision.outcome is ReleaseOutcome.REFUSED else ""
    return _Result(host, why, record, decision)


def _write(answer: _Result) -> None:
    page, name = Page(), answer.host.name
    if answer.record is not None:
        verdict_page.write(page, answer.record)
        page.line("")
    if answer.why_not:
        page.line(f"{name}: not terminated: {answer.why_not}", "yellow")
    elif answer.decision is None:
        page.line(f"{name} could be terminated now", "green")
    else:
        page.line(f"{name} is being terminated", "green")


def _document(answer: _Result) -> dict[str, object]:
    decision = answer.decision
    return {
        "host": answer.host.name,
        "identity": answer.host.identity,
        "released": decision is not None and decision.outcome is ReleaseOutcome.RELEASED,
        "outcome": None if decision is None else str(decision.outcome),
        "why_not": answer.why_not or None,
        **forms.verdict_document(answer.record, watched=True),
    }
