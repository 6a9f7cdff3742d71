"""Names that a shell may complete: hosts, runs and experiments.

The answer is immediate or empty: there is no network access, and a catalogue that can't be read suggests nothing. The
catalogue is imported only when a shell completes: nearly every command refers to this module, and `once` imports the
catalogue while it waits.
"""

import re
from collections.abc import Callable, Iterable

import click

from harvestd.cli.flags import Flags
from harvestd.cli.load_settings import settings_of
from harvestd.errors import HarvestError
from harvestd.settings import Settings

_HARMLESS = re.compile(r"[\w.,+:@%=-]+")
"""Other names are not suggested: a shell would have to quote them, and a host may have chosen them (promise I6)."""


def hosts(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return hosts that complete the word."""
    from harvestd.cli import known_names  # noqa: PLC0415  (see above)

    return _sieved(known_names.hosts, context, incomplete)


def runs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return runs that complete the word, the newest first."""
    from harvestd.cli import known_names  # noqa: PLC0415  (see above)

    return _sieved(known_names.runs, context, incomplete)


def runs_and_experiments(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return runs and directories of experiments that complete the word."""
    from harvestd.cli import known_names  # noqa: PLC0415  (see above)

    return _sieved(known_names.runs_and_experiments, context, incomplete)


def _sieved(known: Callable[[Settings], Iterable[str]], context: click.Context, incomplete: str) -> list[str]:
    try:
        names = known(settings_of(context.ensure_object(Flags)))
    except HarvestError:
        return []
    return list(dict.fromkeys(name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name)))
