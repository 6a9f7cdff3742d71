"""`harvestd fetch`, `ignore` and `name`: requests about one run, recorded for the daemon.

All only record a request: a running daemon reads it within a second. Where none runs, `fetch` itself makes one pass
over the hosts that show the requested files, and `name` renames the directory itself.
"""

import sys
import time
from collections.abc import Sequence
from datetime import timedelta

import click

from harvestd.catalogue import queries
from harvestd.catalogue.requests import record_request
from harvestd.cli import completion, requests, show_details
from harvestd.cli.daemon import daemon_document, daemon_pid, holder_of
from harvestd.cli.errors import print_warning, run_interruptible
from harvestd.cli.flags import Flags, settings_of, span, with_flags, with_json
from harvestd.cli.one_pass import pass_exit_code, print_failures, visit
from harvestd.cli.output import lists, pass_pages
from harvestd.cli.output.page import Page, print_json
from harvestd.cli.requests import Subject, answers, wait_until_settled
from harvestd.convention.kinds import checkpoint_step
from harvestd.convention.metadata.naming import is_plain
from harvestd.convention.structs import Immutable
from harvestd.errors import ExitCode, Fatal, unwrapped
from harvestd.harvest.experiments.names import Waiting, waiting_evals
from harvestd.harvest.experiments.reports import Reports
from harvestd.harvest.host import passes
from harvestd.harvest.host.passes import HostOutcome
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.startup import open_context
from harvestd.inventory.host import Host
from harvestd.planning.requests import RECORDS, RequestKind
from harvestd.settings import Settings
from harvestd.store.lock import Holder, HolderKind
from harvestd.telemetry.log import configure


class Call(Immutable):
    """One call of a command that makes requests."""

    settings: Settings
    found: Subject
    made: tuple[int, ...]
    """The ids of the requests that it recorded."""
    as_json: bool

    def document(self) -> dict[str, object]:
        """Return the JSON document; sizes in bytes."""
        return {
            "run": self.found.run.name,
            "host": self.found.run.host,
            "path": self.found.run.place,
            "daemon": daemon_document(holder_of(self.settings)),
            "offers": requests.offer_documents(self.found),
            "requests": lists.request_documents(answers(self.settings, self.made)),
        }

    def write_result(self, outcomes: Sequence[HostOutcome] = (), note: str = "") -> None:
        """Write the answer: the requests' state, the result of a pass if one was made, and a note for people."""
        if self.as_json:
            visited = {"hosts": pass_pages.results_document(outcomes)["hosts"]} if outcomes else {}
            print_json(self.document() | visited)
            return
        page = Page()
        if outcomes:
            pass_pages.write_results(page, outcomes, verbose=False)
        page.heading(f"{self.found.run.name}: asked for by hand")
        page.table(lists.REQUEST_COLUMNS, lists.request_rows(answers(self.settings, self.made)))
        if note:
            page.line(note)

    def exit_code(self) -> ExitCode:
        """Return whether everything requested is here, as an exit code."""
        missing = any(each.is_open or each.is_refused for each in answers(self.settings, self.made))
        return ExitCode.PARTIAL if missing else ExitCode.OK


def hand_over(call: Call, found: Holder | None) -> ExitCode:
    """Answer that the process that holds the data root will fetch it, or that a later one will."""
    if found is not None and found.kind is HolderKind.COMMAND:
        note = f"a command, process {found.pid}, holds the data root; the next daemon or pass fetches it"
    elif found is not None and found.pid:
        note = f"The daemon, process {found.pid}, fetches it."
    else:
        note = "The daemon that is starting fetches it."
    call.write_result(note=note)
    return ExitCode.OK


def fetch_now(call: Call, flags: Flags) -> ExitCode:
    """Make a pass over the hosts that show the requested files, where no daemon runs, and write the answer."""
    names = _hosts(call)
    try:
        outcomes = run_interruptible(_pass, call, flags, names)
    except Fatal as e:
        if e.exit_code is not ExitCode.LOCKED:
            raise
        # A daemon was started meanwhile.
        return hand_over(call, holder_of(call.settings))
    if not outcomes:
        print_warning(f"{', '.join(names)} is not known any more", "it stays asked for, should the host come back")
        return ExitCode.NO_HOST
    print_failures(call.settings, outcomes, ())
    call.write_result(outcomes)
    return pass_exit_code(outcomes) or call.exit_code()


async def _pass(call: Call, flags: Flags, names: Sequence[str]) -> list[HostOutcome]:
    storages = {run.storage for run in call.found.runs}
    known = await passes.find_hosts(call.settings)
    wanted = [host for host in known.hosts if host.name in names]
    if not any(_storage(host) in storages for host in wanted):
        # Another host may show the same file system.
        wanted += [host for host in known.hosts if _storage(host) in storages][:1]
    if not wanted and known.failures:
        raise known.failures[0]
    return await visit(call.settings, flags, wanted) if wanted else []


def _storage(host: Host) -> str:
    return host.storage or host.identity


def _hosts(call: Call) -> list[str]:
    """Return the hosts that show the requested files, and those that showed the run."""
    fetchables = (call.found.fetchable(each.thing) for each in answers(call.settings, call.made))
    return sorted(
        {*(run.host for run in call.found.runs), *(host for each in fetchables if each for host in each.hosts)}
    )


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
@click.argument("run", shell_complete=completion.runs)
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
        found = requests.subject(connection, run)
    things = [*([RECORDS] if records else []), *(_checkpoint(found, each) for each in dict.fromkeys(checkpoints))]
    if not things:
        _offer(Call(settings, found, tuple(each.id for each in found.requests), as_json))
        return ExitCode.OK
    _refuse(found)
    made = [record_request(settings.state, RequestKind.FETCH, found.run.key, {"thing": thing}) for thing in things]
    call = Call(settings, found, tuple(made), as_json)
    holder = holder_of(settings)
    if holder is None:
        return fetch_now(call, flags)
    if not waits:
        return hand_over(call, holder)
    wait_until_settled(settings, found, made, timeout)
    call.write_result()
    return call.exit_code()


@click.command(epilog=_IGNORE)
@click.argument("run", shell_complete=completion.runs)
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
        found = requests.subject(connection, run)
    made = []
    if undo == bool(found.in_force.ignored):
        detail = {"undo": True} if undo else {}
        made.append(record_request(settings.state, RequestKind.IGNORE, found.run.key, detail))
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
    if checkpoint_step(thing) and (found.fetchable(thing) or found.files_here(thing)):
        return thing
    known = [each.thing for each in found.fetchables if each.thing != RECORDS]
    raise Fatal(
        f"no box shows a checkpoint {given} of {found.run.name}",
        hint=f"left out there: {', '.join(known)}" if known else "no checkpoint of it is left out; `harvestd show` it",
        exit_code=ExitCode.UNKNOWN_NAME,
    )


def _refuse(found: Subject) -> None:
    name = found.run.name
    if found.in_force.ignored:
        ignored = found.in_force.ignored.reason.removeprefix("asked: ")
        raise Fatal(f"{name} is {ignored}", hint=f"`harvestd ignore {name} --undo`, then ask again")
    if found.is_taken_away:
        raise Fatal(f"the directory of {name} was taken away here", hint="put it back, then ask again")


def _offer(call: Call) -> None:
    """Show what could be fetched, and the earlier requests."""
    if call.as_json:
        print_json(call.document())
        return
    found, page = call.found, Page()
    page.heading(
        f"{found.run.name}: what could be fetched" if found.fetchables else f"{found.run.name}: nothing is left"
    )
    page.table(requests.OFFER_COLUMNS, requests.offer_rows(found))
    if found.requests:
        page.heading("asked for by hand")
        page.table(lists.REQUEST_COLUMNS, lists.request_rows(found.requests))


_SOON = 5.0
"""Seconds within which a running daemon applies a name that can be applied now."""
_ASK_EVERY = 0.2
_NAME = """\b
Exit codes: 0, 2 a name that can't be used, 3 it could not be done,
4 unknown name.

\b
--json: run, name, settled, outcome
"""


@click.command(epilog=_NAME)
@click.argument("run", shell_complete=completion.runs)
@click.argument("experiment_name")
@with_json
@with_flags
@click.pass_obj
def name(flags: Flags, run: str, experiment_name: str, *, as_json: bool) -> ExitCode:
    """Call the experiment of RUN so; its directory follows, and facts don't rename it any more.

    RUN is a run, or an experiment's directory or id. Evals that wait in _unfiled for a RUN that was not seen are filed
    in an experiment of their own. EXPERIMENT_NAME is the first part of the directory's name. Beside a running daemon a
    directory in which files grow gets its name when the run has finished.
    """
    settings = settings_of(flags)
    if not is_plain(experiment_name):
        raise Fatal(
            f"{experiment_name!r} can't be the beginning of a directory's name",
            hint="up to 100 letters, digits, and . _ - with no . or - at the beginning",
            exit_code=ExitCode.CONFIGURATION,
        )
    configure(flags.form_for_people, flags.log_level or "warning", stream=sys.stderr)
    key, detail = _subject(settings, run)
    made = record_request(settings.state, RequestKind.NAME, key, {**detail, "name": experiment_name})
    if daemon_pid(settings) is None:
        with unwrapped():
            run_interruptible(_take, settings)
    else:
        _wait(settings, made)
    (answer,) = answers(settings, [made])
    if as_json:
        settled = not answer.is_open
        print_json({"run": run, "name": experiment_name, "settled": settled, "outcome": answer.outcome or None})
    elif answer.is_open:
        Page().line("the daemon has it: the directory gets its name when the run has finished")
    else:
        Page().line(f"{run}: {answer.outcome}")
    return ExitCode.PARTIAL if answer.is_refused else ExitCode.OK


def _subject(settings: Settings, run: str) -> tuple[tuple[str, str], dict[str, object]]:
    """Return the key of the requested run, and the subject of its name; raise `Fatal` (4)."""
    with queries.questions(settings.state) as connection:
        waiting = waiting_evals(queries.files_of(connection, None), run)
        known = [each for each in queries.runs(connection) if each.name == run]
        if waiting is not None and not any(each.was_seen for each in known):
            return _key(waiting), {"run": run}
        shown = show_details.find(connection, run)
    if shown.experiment is None:
        raise Fatal(f"{run} has no experiment yet", hint="it gets one when its config.yaml is whole")
    return shown.runs[0].key, {"experiment": shown.experiment.id}


def _key(waiting: Waiting) -> tuple[str, str]:
    return waiting.files[0].storage, waiting.run.name


async def _take(settings: Settings) -> None:
    """Apply the request where no daemon runs: opening the context processes it."""
    async with open_context(settings, NullListener()) as (context, root):
        await context.catalogue_opened.wait()
        # README and pictures show the directory's name.
        await Reports(context, root).finish()


def _wait(settings: Settings, made: int) -> None:
    end = time.monotonic() + _SOON
    while time.monotonic() < end and answers(settings, [made])[0].is_open:
        time.sleep(_ASK_EVERY)
