"""The group of all commands. A command's file is imported when the command is called or its own help is shown.

So `harvestd --help` needs neither SSH nor a database: the lines of its list are in a table here.
"""

from typing import TYPE_CHECKING

import click

from harvestd import __version__
from harvestd.cli.flags import with_flags
from harvestd.convention.structs import Immutable

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class _Entry(Immutable):
    """The place of a command, and its line in the list."""

    module: str
    function: str
    summary: str


COMMANDS = {
    "run": _Entry("commands.run", "run", "Run the daemon in the foreground, until SIGTERM."),
    "once": _Entry("commands.once", "once", "Make one full pass over HOSTs (all), then exit."),
    "plan": _Entry("commands.once", "plan", "Show what a pass over HOSTs (all) would fetch, and why."),
    "status": _Entry("commands.overview", "status", "Show how hosts and runs stand."),
    "hosts": _Entry("commands.overview", "hosts", "List HOSTs (all): configured ones and ones seen before."),
    "runs": _Entry("commands.overview", "runs", "List all training runs that were seen."),
    "show": _Entry("commands.overview", "show", "Show all of an experiment or a run."),
    "experiments": _Entry("commands.experiments", "experiments", "List all experiments with their results."),
    "compare": _Entry("commands.experiments", "compare", "Compare the results of two to eight experiments."),
    "safe": _Entry("commands.safe", "safe", "Check whether HOST may be switched off, and why not."),
    "wait": _Entry("commands.safe", "wait", "Return when HOST may be switched off."),
    "fetch": _Entry("commands.fetch", "fetch", "Bring what the rules leave out of RUN, as long as its box lives."),
    "ignore": _Entry("commands.fetch", "ignore", "Fetch nothing more of RUN; what is here stays."),
    "explain": _Entry("commands.overview", "explain", "Explain where a file came from, or why one is not here."),
    "name": _Entry("commands.fetch", "name", "Call the experiment of RUN so; its directory follows."),
    "report": _Entry("commands.experiments", "report", "Make an experiment's README and pictures anew."),
    "sync": _Entry("commands.once", "sync", "Bring the run and the evals of a remote eval job home."),
    "release": _Entry("commands.safe", "release_command", "Terminate HOST, a box of the cloud, if it is safe."),
    "pause": _Entry("commands.events", "pause", "Fetch nothing from now on, until `resume` or a restart."),
    "resume": _Entry("commands.events", "resume", "Fetch again after `pause`."),
    "scan": _Entry("commands.events", "scan", "Scan all hosts now, instead of at the next interval."),
    "verify": _Entry("commands.verify", "verify", "Hash all that is here again; --repair sets aside what is damaged."),
    "check": _Entry("commands.check", "check", "Check the configuration; every problem at once."),
    "doctor": _Entry("commands.doctor", "doctor", "Try all that a pass over HOSTs (all) needs; changes nothing."),
    "forget-key": _Entry("commands.check", "forget_key", "Forget the SSH host key that is kept for HOST."),
    "accept-root": _Entry("commands.check", "accept_root", "Accept the file systems that are mounted on HOST now."),
    "notify": _Entry("commands.notify", "notify", "Show the newest alarms, and which receivers got them."),
    "install": _Entry("commands.install", "install", "Write a systemd unit and a first configuration; safe to repeat."),
    "uninstall": _Entry("commands.install", "uninstall", "Stop the daemon and take away what install wrote."),
    "open": _Entry("commands.open_page", "open_page", "Open the daemon's page in a browser."),
    "events": _Entry("commands.events", "events", "Show what the daemon told lately; -f goes on."),
    "completion": _Entry("completion", "completion", "Print shell completions: bash, zsh or fish."),
    "demo": _Entry("commands.demo", "demo", "Watch the daemon bring home an embedded fleet of made-up boxes."),
}


_EXIT_CODES = """\b
Exit codes:
  0  done
  2  the configuration or the command line can't be used
  3  some hosts or files failed
  4  unknown name
  5  no host could be reached
  6  the disk is full
  7  another daemon holds the data root; for `status`: none runs
 10  `safe`, `wait`, `release`: not safe, or not known

`harvestd COMMAND --help` says more of each command.
"""


class LazyGroup(click.Group):
    """A group whose commands are imported one by one, when they are needed."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002  (click's signature)
        """Return the names in the order in which users need them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002  (the same)
        """Import a command; return None for an unknown name."""
        entry = COMMANDS.get(cmd_name)
        if entry is None:
            return None
        from harvestd.cli.lazy_import import imported  # noqa: PLC0415  (the list of commands needs none of it)

        command = getattr(imported(f"harvestd.cli.{entry.module}"), entry.function)
        if not isinstance(command, click.Command):
            raise TypeError(f"{entry.module}.{entry.function} is no command")
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem]":
        """Return commands and options with this beginning, without importing what is listed."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415  (only a shell that completes needs it)

        found = [
            CompletionItem(name, help=each.summary) for name, each in COMMANDS.items() if name.startswith(incomplete)
        ]
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002  (the same)
        """Write the list without importing what it lists."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, entry.summary) for name, entry in COMMANDS.items()])


def _log_version(context: click.Context, _parameter: click.Parameter, wanted: bool) -> None:  # noqa: FBT001  (click's)
    if not wanted or context.resilient_parsing:
        return
    from harvestd.commit import commit  # noqa: PLC0415  (may start git)

    made_from = commit()
    click.echo(f"harvestd {__version__} ({made_from})" if made_from else f"harvestd {__version__}")
    context.exit()


@click.group(
    cls=LazyGroup,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=_EXIT_CODES,
)
@with_flags
@click.option(
    "--version",
    is_flag=True,
    is_eager=True,
    expose_value=False,
    callback=_log_version,
    help="Show version and commit.",
)
def app() -> None:
    """Bring training runs and evals home from rented GPU boxes while they are being written."""
