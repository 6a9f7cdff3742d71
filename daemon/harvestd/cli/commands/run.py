"""`harvestd run`: the daemon itself, with its events on standard output."""

from functools import partial

import anyio
import click

from harvestd import service
from harvestd.cli.errors import print_warning
from harvestd.cli.flags import Flags, config_of, settings_of, with_flags
from harvestd.errors import ExitCode
from harvestd.harvest.memory import share_arenas
from harvestd.settings import load, warnings_for
from harvestd.telemetry.log import configure


@click.command
@with_flags
@click.pass_obj
def run(flags: Flags) -> ExitCode:
    """Run the daemon in the foreground, until SIGTERM.

    Events go to standard output: JSON lines, or readable ones on a terminal. SIGUSR1 looks at all hosts at once,
    SIGHUP reads the configuration anew, as a change of its file does; a second SIGTERM ends the process at once, which
    is safe.
    """
    share_arenas()
    settings = settings_of(flags)
    for caution in warnings_for(settings):
        print_warning(str(caution))
    lines = configure(flags.log_format, flags.log_level or "info")
    reload = partial(load, overrides=flags.overrides)
    with lines.background():
        return anyio.run(partial(service.run, settings, config_of(flags), reload=reload))
