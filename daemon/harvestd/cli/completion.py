"""Complete commands, options and their values in a shell: the script for it, and the values.

Names that a shell may complete: hosts, runs and experiments. The answer is immediate or empty: there is no network
access, and a catalogue that can't be read suggests nothing. The catalogue is imported only when a shell completes:
nearly every command refers to this module, and `once` imports the catalogue while it waits.
"""

import re
import sys
from collections.abc import Callable, Iterable

import click
from click.shell_completion import get_completion_class

from harvestd.cli.flags import Flags, settings_of
from harvestd.errors import HarvestError
from harvestd.settings import Settings

_USE = {
    "bash": 'eval "$(harvestd completion bash)"   # in ~/.bashrc',
    "zsh": 'eval "$(harvestd completion zsh)"   # in ~/.zshrc, after compinit',
    "fish": "harvestd completion fish | source   # in ~/.config/fish/config.fish",
}


@click.command
@click.argument("shell", type=click.Choice(list(_USE)))
@click.pass_context
def completion(context: click.Context, shell: str) -> None:
    """Print shell completions: bash, zsh or fish. Their last line says where they go."""
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"there are no completions for {shell}")
    # A line before the script would hide the `#compdef` that zsh expects in the first line.
    script = made(context.find_root().command, {}, "harvestd", "_HARVESTD_COMPLETE").source()
    sys.stdout.write(f"{script.strip()}\n# {_USE[shell]}\n")


_HARMLESS = re.compile(r"[\w.,+:@%=-]+")
"""Other names are not suggested: a shell would have to quote them, and a host may have chosen them."""


def hosts(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return hosts that complete the word."""
    return _sieved(_hosts, context, incomplete)


def runs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return runs that complete the word, the newest first."""
    return _sieved(_runs, context, incomplete)


def runs_and_experiments(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return runs and directories of experiments that complete the word."""
    return _sieved(_runs_and_experiments, context, incomplete)


def _sieved(known: Callable[[Settings], Iterable[str]], context: click.Context, incomplete: str) -> list[str]:
    try:
        names = known(settings_of(context.ensure_object(Flags)))
    except HarvestError:
        return []
    return list(dict.fromkeys(name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name)))


def _hosts(settings: Settings) -> Iterable[str]:
    """Return the names of hosts; raise `HarvestError` where the catalogue can't be read, as the others do."""
    from harvestd.catalogue import queries  # noqa: PLC0415  (see above)
    from harvestd.documents import stored  # noqa: PLC0415  (the same)

    with queries.questions(settings.state) as connection:
        return [host.name for host in stored.hosts(connection, settings)]


def _runs(settings: Settings) -> Iterable[str]:
    """Return the names of runs, the newest first."""
    from harvestd.catalogue import queries  # noqa: PLC0415  (see above)

    with queries.questions(settings.state) as connection:
        return [run.name for run in queries.runs(connection)]


def _runs_and_experiments(settings: Settings) -> Iterable[str]:
    """Return the names of runs, and of the directories of experiments."""
    from harvestd.catalogue import queries  # noqa: PLC0415  (see above)

    with queries.questions(settings.state) as connection:
        directories = [each.directory for each in queries.experiments(connection).values()]
        return [*(run.name for run in queries.runs(connection)), *directories]
