"""Names that a shell may complete: hosts, runs and experiments.

Answers at once or not at all: nothing is asked over a network, and what can't be read suggests nothing. The catalogue
is imported when a shell asks: nearly every command says what completes it, and `once` imports it while it waits.
"""

import re
from collections.abc import Callable, Iterable

import click

from harvestd.cli.flags import Flags
from harvestd.cli.load_settings import settings_of
from harvestd.errors import HarvestError
from harvestd.settings import Settings

_HARMLESS = re.compile(r"[\w.,+:@%=-]+")
"""Other names are not suggested: a shell would have to quote them, and a box may have chosen them (promise I6)."""


def hosts(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Suggest hosts."""
    from harvestd.cli import known_names  # noqa: PLC0415  (see above)

    return _sieved(known_names.hosts, context, incomplete)


def runs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Suggest runs, the newest first."""
    from harvestd.cli import known_names  # noqa: PLC0415  (see above)

    return _sieved(known_names.runs, context, incomplete)


def runs_and_experiments(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Suggest runs and the directories of experiments."""
    from harvestd.cli import known_names  # noqa: PLC0415  (see above)

    return _sieved(known_names.runs_and_experiments, context, incomplete)


def _sieved(known: Callable[[Settings], Iterable[str]], context: click.Context, incomplete: str) -> list[str]:
    try:
        names = known(settings_of(context.ensure_object(Flags)))
    except HarvestError:
        return []
    return list(dict.fromkeys(name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name)))
