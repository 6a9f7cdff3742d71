"""`harvestd open`: open the daemon's page in a browser, logged in."""

import os
import sys
import webbrowser
from importlib.util import find_spec

import click

from harvestd.cli.daemon import Absent, DaemonClient
from harvestd.cli.flags import Flags, settings_of, with_flags
from harvestd.cli.output.page import Page
from harvestd.errors import ExitCode, Fatal

_EPILOG = """\b
Exit codes: 0, 2 the daemon serves no page, 7 no daemon answers.
"""


@click.command(epilog=_EPILOG)
@click.option("--print", "only_print", is_flag=True, help="Print the address alone.")
@with_flags
@click.pass_obj
def open_page(flags: Flags, *, only_print: bool) -> None:
    """Open the daemon's page in a browser.

    The address holds a code that is good for a minute and for one browser. From another machine: `ssh -L
    8750:127.0.0.1:8750 HERE`, then open there what --print prints here.
    """
    settings = settings_of(flags)
    if not settings.api.listen:
        raise Fatal(
            "the daemon serves no page: [api] listen is not set",
            hint='set listen = "127.0.0.1:8750" in [api], and restart the daemon',
            exit_code=ExitCode.CONFIGURATION,
        )
    if find_spec("jinja2") is None:
        raise Fatal(
            "the daemon serves no page: jinja2 is not installed",
            hint="pip install 'harvestd[page]', and restart the daemon",
            exit_code=ExitCode.CONFIGURATION,
        )
    if not settings.api.socket:
        raise Fatal("api.socket is false: the daemon takes no commands", exit_code=ExitCode.LOCKED)
    try:
        url = str(DaemonClient(settings).command("login")["url"])
    except (Absent, KeyError) as error:
        raise Fatal(
            f"no daemon gives a code for its page: {error}",
            hint="`harvestd run` starts one; one that began before [api] listen or jinja2 was there is to be restarted",
            exit_code=ExitCode.LOCKED,
        ) from error
    Page().line(url)
    if not only_print and _has_display():
        webbrowser.open(url)


def _has_display() -> bool:
    """Return whether a browser opened here would be seen."""
    return sys.platform == "darwin" or bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
