"""`harvestd name`: set the name of an experiment; its directory follows."""

import sys
import time

import click

from harvestd.catalogue import queries
from harvestd.catalogue.requests import ask
from harvestd.cli import completion, show_details
from harvestd.cli.errors import run_interruptible
from harvestd.cli.flags import Flags, with_flags, with_json
from harvestd.cli.load_settings import settings_of
from harvestd.cli.output.page import Page, print_json
from harvestd.cli.presence import daemon_pid
from harvestd.cli.wait_requests import answers
from harvestd.convention.metadata.naming import is_plain
from harvestd.errors import ExitCode, Fatal, unwrapped
from harvestd.harvest.experiments.names import Waiting, waiting_evals
from harvestd.harvest.experiments.reports import Reports
from harvestd.harvest.monitor import NullListener
from harvestd.harvest.startup.open import open_context
from harvestd.planning.requests import RequestKind
from harvestd.settings import Settings
from harvestd.telemetry.log import configure

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

    RUN is a run, or an experiment's directory or id. Evals that wait in _unfiled for a RUN which nobody saw are filed
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
    made = ask(settings.state, RequestKind.NAME, key, {**detail, "name": experiment_name})
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
