"""`harvestd fetch` and `harvestd ignore`: manual requests about one run.

Both only record a request: a running daemon reads it within a second. Where none runs, `fetch` itself makes one pass
over the hosts that show the requested files.
"""

from datetime import timedelta

import click

from harvestd.catalogue import queries
from harvestd.catalogue.requests import ask
from harvestd.cli import completion_values, offers
from harvestd.cli.daemon.presence import holder_of
from harvestd.cli.daemon.wait_requests import wait_until_settled
from harvestd.cli.durations import span
from harvestd.cli.fetch_now import Call, fetch_now, hand_over
from harvestd.cli.flags import Flags, with_flags, with_json
from harvestd.cli.load_settings import settings_of
from harvestd.cli.offers import Subject
from harvestd.cli.output import requests
from harvestd.cli.output.page import Page, print_json
from harvestd.convention.patterns import checkpoint_step
from harvestd.errors import ExitCode, Fatal
from harvestd.planning.requests import RECORDS, RequestKind

_REQUEST_KEYS = "id, kind, what, state, asked, taken, settled, outcome"
_FETCH = f"""\b
Exit codes: 0 it is here, or the daemon has it, 2 RUN is ignored,
3 not all of it came (with --wait: in time), 4 unknown run or checkpoint,
5 no host reachable, 6 disk full, 7 the daemon ended while waiting.

\b
--json: run, host, path, daemon {{running, pid}},
  offers[] {{what, files, bytes, hosts[]}},
  requests[]: {_REQUEST_KEYS}
  hosts[] as of `once`, where this command made the pass
"""
_IGNORE = f"""\b
Exit codes: 0, 4 unknown run.

\b
--json: run, host, path, daemon {{running, pid}},
  requests[]: {_REQUEST_KEYS}
"""


@click.command(epilog=_FETCH)
@click.argument("run", shell_complete=completion_values.runs)
@click.option("--records", is_flag=True, help="The records of its evals, later ones too.")
@click.option("--checkpoint", "checkpoints", metavar="STEP", multiple=True, help="step_40, or 40. Repeatable.")
@click.option("--wait", "waits", is_flag=True, help="Return when it is here.")
@click.option(
    "--timeout", metavar="TIME", default="1h", show_default=True, callback=span, help="With --wait: wait no longer."
)
@with_json
@with_flags
@click.pass_obj
def fetch(
    flags: Flags,
    run: str,
    checkpoints: tuple[str, ...],
    timeout: timedelta,
    *,
    records: bool,
    waits: bool,
    as_json: bool,
) -> ExitCode:
    """Bring what the rules leave out of RUN, as long as its box lives.

    RUN is a run, or an experiment's directory or id, or the beginning of one. Without an option it says what could be
    fetched.
    """
    settings = settings_of(flags)
    with queries.questions(settings.state) as connection:
        found = offers.subject(connection, run)
    things = [*([RECORDS] if records else []), *(_checkpoint(found, each) for each in dict.fromkeys(checkpoints))]
    if not things:
        _offer(Call(settings, found, tuple(each.id for each in found.requests), as_json))
        return ExitCode.OK
    _refuse(found)
    made = [ask(settings.state, RequestKind.FETCH, found.run.key, {"thing": thing}) for thing in things]
    call = Call(settings, found, tuple(made), as_json)
    holder = holder_of(settings)
    if holder is None:
        return fetch_now(call, flags)
    if not waits:
        return hand_over(call, holder)
    wait_until_settled(settings, found, made, timeout)
    call.tell()
    return call.came()


@click.command(epilog=_IGNORE)
@click.argument("run", shell_complete=completion_values.runs)
@click.option("--undo", is_flag=True, help="Fetch it again, and what was missed meanwhile.")
@with_json
@with_flags
@click.pass_obj
def ignore(flags: Flags, run: str, *, undo: bool, as_json: bool) -> None:
    """Fetch nothing more of RUN; what is here stays.

    RUN is a run, or an experiment's directory or id, or the beginning of one.
    """
    settings = settings_of(flags)
    with queries.questions(settings.state) as connection:
        found = offers.subject(connection, run)
    made = []
    if undo == bool(found.wishes.ignored):
        detail = {"undo": True} if undo else {}
        made.append(ask(settings.state, RequestKind.IGNORE, found.run.key, detail))
    if as_json:
        print_json(Call(settings, found, tuple(made), as_json).document())
    elif not made:
        Page().line(f"{found.run.name} is {'not ignored' if undo else 'ignored already'}")
    else:
        said = "is fetched again" if undo else "is ignored: nothing more of it is fetched, what is here stays"
        Page().line(f"{found.run.name} {said}")


def _checkpoint(found: Subject, given: str) -> str:
    """Return the directory's name of a checkpoint; raise `Fatal` (4) where no host shows it."""
    thing = given if given.startswith("step_") else f"step_{given}"
    if checkpoint_step(thing) and (found.offer(thing) or found.files_here(thing)):
        return thing
    known = [each.thing for each in found.offers if each.thing != RECORDS]
    raise Fatal(
        f"no box shows a checkpoint {given} of {found.run.name}",
        hint=f"left out there: {', '.join(known)}" if known else "no checkpoint of it is left out; `harvestd show` it",
        exit_code=ExitCode.UNKNOWN_NAME,
    )


def _refuse(found: Subject) -> None:
    name = found.run.name
    if found.wishes.ignored:
        ignored = found.wishes.ignored.reason.removeprefix("asked: ")
        raise Fatal(f"{name} is {ignored}", hint=f"`harvestd ignore {name} --undo`, then ask again")
    if found.is_taken_away:
        raise Fatal(f"the directory of {name} was taken away here", hint="put it back, then ask again")


def _offer(call: Call) -> None:
    """Show what could be fetched, and the earlier requests."""
    if call.as_json:
        print_json(call.document())
        return
    found, page = call.found, Page()
    page.heading(f"{found.run.name}: what could be fetched" if found.offers else f"{found.run.name}: nothing is left")
    page.table(offers.COLUMNS, offers.rows(found))
    if found.requests:
        page.heading("asked for by hand")
        page.table(requests.COLUMNS, requests.rows(found.requests))
