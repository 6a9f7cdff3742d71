"""`harvestd release`: a person has one box of the cloud terminated, if nothing is lost with it.

The checks are the daemon's own but for its list and its rate. Nobody is asked twice, and what was checked is not kept
waiting for an answer: a person confirms first.
"""

import sys

import anyio
import click

from harvestd.catalogue.entries import Decision, ReleaseOutcome
from harvestd.cli import quantities
from harvestd.cli.flags import Flags, with_flags, with_json
from harvestd.cli.loading import settings_of
from harvestd.cli.output import Page, print_json
from harvestd.cli.presence import daemon_pid
from harvestd.convention.verdict import Answer, Reason, ReasonKind, Verdict
from harvestd.errors import ExitCode, Fatal
from harvestd.harvest import passes
from harvestd.harvest.releasable import is_rented
from harvestd.harvest.releasing_by_hand import Examined, examined, release
from harvestd.inventory.provider import Host
from harvestd.settings import Settings
from harvestd.telemetry.events import Event
from harvestd.telemetry.logs import configure, get_logger

_RELEASE = """\b
Exit codes: 0 it is being terminated (--dry-run: it could be),
3 the cloud refused, or gave no clear answer, 4 no box of the cloud is called so,
10 not safe, or not the box that the cloud names.

\b
--json: host, identity, released, dry_run, why_not, outcome,
  reasons[] {kind, detail}, losses[] {kind, what, bytes}
"""


@click.command("release", epilog=_RELEASE)
@click.argument("host")
@click.option("--yes", "confirmed", is_flag=True, help="Don't ask; needed off a terminal.")
@click.option("--dry-run", is_flag=True, help="Check everything, and terminate nothing.")
@with_json
@with_flags
@click.pass_obj
def release_command(flags: Flags, host: str, *, confirmed: bool, dry_run: bool, as_json: bool) -> ExitCode:
    """Terminate HOST, a box of the cloud, if it is safe.

    Its own disk ends with it, for good. The daemon's verdict is asked for anew, the box must be the instance that the
    cloud names, and nothing may stand in the way; [release] is not asked.
    """
    configure(flags.form_for_people, flags.log_level or "warning", stream=sys.stderr)
    settings = settings_of(flags)
    found = anyio.run(_found, settings, host)
    if not (confirmed or dry_run):
        _confirm(found)
    return anyio.run(_release, settings, found, dry_run, as_json)


async def _found(settings: Settings, name: str) -> Host:
    (found,) = await passes.hosts_of(settings, [name])
    if not is_rented(found):
        raise Fatal(
            f"{name} is no box of the cloud",
            hint="terminate it where it is rented; `harvestd safe` says whether that is safe",
            exit_code=ExitCode.UNKNOWN_NAME,
        )
    return found


def _confirm(host: Host) -> None:
    """Ask a person; raises `Fatal` off a terminal, `Abort` where they say no."""
    if not sys.stdin.isatty():
        raise Fatal("nobody can confirm it off a terminal", hint="--yes confirms it, --dry-run only checks")
    click.confirm(f"Terminate {host.name} ({host.identity}, {host.address}) for good, if it is safe?", abort=True)


async def _release(settings: Settings, host: Host, dry_run: bool, as_json: bool) -> ExitCode:  # noqa: FBT001  (as asked)
    found = await examined(host, settings, lambda each: _verdict(settings, each))
    if found.verdict is None or found.hindrance or dry_run:
        _tell(host, found, None, as_json)
        return ExitCode.NOT_SAFE if found.hindrance or found.verdict is None else ExitCode.OK
    decision = await release(host, found.verdict, settings)
    _tell(host, found, decision, as_json)
    return ExitCode.OK if decision.outcome is ReleaseOutcome.RELEASED else ExitCode.PARTIAL


async def _verdict(settings: Settings, host: Host) -> Verdict:
    """Give the daemon's verdict, made now."""
    who = "no daemon watches it" if daemon_pid(settings) is None else "the daemon can't be asked"
    return Verdict(Answer.NOT_SAFE, (Reason(ReasonKind.NOT_QUIET, f"{who}: {host.name}"),))


def _tell(host: Host, found: Examined, decision: Decision | None, as_json: bool) -> None:  # noqa: FBT001  (as asked)
    """Answer: what stands in the way and what would be lost, or what became of it."""
    outcome = decision.outcome if decision else None
    if outcome is ReleaseOutcome.RELEASED:
        get_logger().info(Event.HOST_RELEASED, host=host.name, identity=host.identity, by_hand=True)
    if as_json:
        print_json(_document(host, found, decision))
        return
    page = Page()
    verdict = found.verdict
    if found.hindrance or verdict is None:
        page.line(f"{host.name} is not terminated: {found.hindrance}", "yellow")
    elif decision is None:
        page.line(f"{host.name} could be terminated now", "green")
    elif outcome is ReleaseOutcome.RELEASED:
        page.line(f"{host.name} is being terminated", "green")
    else:
        unclear = "the cloud gave no clear answer, look at its list before you ask again"
        why = unclear if outcome is ReleaseOutcome.UNCLEAR else "the cloud refuses"
        page.line(f"{host.name}: {why} ({decision.detail})", "red")
    for reason in verdict.reasons if verdict else ():
        page.line(f"  {reason.detail}")
    for loss in verdict.losses if verdict else ():
        size = quantities.NOTHING if loss.size is None else quantities.size(loss.size)
        accepted = ", accepted" if verdict and loss.kind in verdict.accepted else ""
        page.line(f"  lost with it: {loss.kind}, {loss.what} ({size}{accepted})")


def _document(host: Host, found: Examined, decision: Decision | None) -> dict[str, object]:
    verdict = found.verdict
    return {
        "host": host.name,
        "identity": host.identity,
        "released": decision is not None and decision.outcome is ReleaseOutcome.RELEASED,
        "dry_run": decision is None and not found.hindrance,
        "why_not": found.hindrance or (decision.detail if decision else "") or None,
        "outcome": str(decision.outcome) if decision else None,
        "reasons": [{"kind": str(each.kind), "detail": each.detail} for each in (verdict.reasons if verdict else ())],
        "losses": [
            {"kind": str(each.kind), "what": each.what, "bytes": each.size}
            for each in (verdict.losses if verdict else ())
        ],
    }
