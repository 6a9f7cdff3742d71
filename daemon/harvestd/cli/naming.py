"""`harvestd name`: what a person calls an experiment; the directory follows."""

import sys

import anyio
import click

from harvestd.catalogue import reading
from harvestd.cli import showing
from harvestd.cli.flags import Flags, with_flags, with_json
from harvestd.cli.loading import settings_of
from harvestd.cli.output import Page, print_json
from harvestd.cli.presence import daemon_pid
from harvestd.convention.facts import ConfigFacts
from harvestd.convention.naming import is_plain
from harvestd.convention.records import ExperimentRecord
from harvestd.errors import ExitCode, Fatal, unwrapped
from harvestd.harvest.monitor import Silent
from harvestd.harvest.naming_by_hand import file_waiting, name_experiment, waiting_evals
from harvestd.harvest.opening import opened_house
from harvestd.settings import Settings
from harvestd.telemetry.logs import configure

_NAME = """\b
Exit codes: 0, 2 a name that can't be used, 4 unknown name, 7 a daemon is at work.

\b
--json: experiment, id, before (the directory's name before; null where it is new)
"""


@click.command(epilog=_NAME)
@click.argument("run")
@click.argument("experiment_name")
@with_json
@with_flags
@click.pass_obj
def name(flags: Flags, run: str, experiment_name: str, *, as_json: bool) -> None:
    """Call the experiment of RUN so; its directory follows, and facts don't rename it any more.

    RUN is a run, or an experiment's directory or id. Evals that wait in _unfiled for a run which nobody saw are filed
    in an experiment of their own. EXPERIMENT_NAME is the first part of the directory's name: letters, digits, and . _ -
    """
    settings = settings_of(flags)
    if not is_plain(experiment_name):
        raise Fatal(
            f"{experiment_name!r} can't be the beginning of a directory's name",
            hint="up to 100 letters, digits, and . _ - with no . or - at the beginning",
            exit_code=ExitCode.CONFIGURATION,
        )
    configure(flags.form_for_people, flags.log_level or "warning", stream=sys.stderr)
    if daemon_pid(settings) is not None:
        raise Fatal("a daemon is at work", hint="stop it, then name", exit_code=ExitCode.LOCKED)
    with unwrapped():
        before, after = anyio.run(_named, settings, run, experiment_name)
    if as_json:
        print_json({"experiment": after.directory, "id": after.id, "before": before})
    elif before == after.directory:
        Page().line(f"{after.directory} stays where it is")
    else:
        Page().line(f"{before or 'what waited in _unfiled'} is {after.directory} now")


async def _named(settings: Settings, run: str, experiment_name: str) -> tuple[str | None, ExperimentRecord]:
    async with opened_house(settings, Silent()) as (house, root):
        await house.knows.wait()
        waiting = waiting_evals(house.catalogue.knowledge.files_of(None), run)
        known = house.catalogue.knowledge.runs_named(run)
        if waiting is not None and all(each.config == ConfigFacts() for each in known):
            return None, await file_waiting(house, root, waiting, experiment_name)
        with reading.questions(settings.state) as connection:
            found = showing.find(connection, run).experiment
        if found is None:
            raise Fatal(f"{run} has no experiment yet", hint="it gets one when its config.yaml is whole")
        return found.directory, await name_experiment(house, root, found.id, experiment_name)
