"""`harvestd pause`, `resume` and `scan`: what a person may ask of the running daemon."""

from typing import Final

import click

from harvestd.cli.daemon import Absent, DaemonClient
from harvestd.cli.flags import Flags, settings_of, with_flags, with_json
from harvestd.cli.output.page import Page, print_json
from harvestd.errors import ExitCode, Fatal

_EPILOG: Final = """\b
Exit codes: 0, 7 no daemon answers.

\b
--json: done
"""


@click.command(epilog=_EPILOG)
@with_json
@with_flags
@click.pass_obj
def pause(flags: Flags, *, as_json: bool) -> None:
    """Fetch nothing from now on, until `resume` or a restart.

    Hosts are still scanned, and verdicts made: a host with files that are not here is not safe. Partial files stay, and
    are resumed.
    """
    _command(flags, "pause", "the daemon is paused; `harvestd resume` goes on", as_json=as_json)


@click.command(epilog=_EPILOG)
@with_json
@with_flags
@click.pass_obj
def resume(flags: Flags, *, as_json: bool) -> None:
    """Fetch again after `pause`."""
    _command(flags, "resume", "the daemon fetches again", as_json=as_json)


@click.command(epilog=_EPILOG)
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
