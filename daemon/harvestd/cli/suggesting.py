"""Names that a shell may complete: hosts, runs and experiments, from the configuration and the catalogue.

Answers at once or not at all: nothing is asked over a network, and what can't be read suggests nothing.
"""

import re
from collections.abc import Iterable

import click

from harvestd.catalogue import reading
from harvestd.cli.flags import Flags
from harvestd.cli.loading import settings_of
from harvestd.cli.overview import hosts as known_hosts
from harvestd.errors import HarvestError

_HARMLESS = re.compile(r"[\w.,+:@%=-]+")
"""Other names are not suggested: a shell would have to quote them, and a box may have chosen them (promise I6)."""


def hosts(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Suggest hosts."""
    try:
        settings = settings_of(context.ensure_object(Flags))
        with reading.questions(settings.state) as connection:
            return _sieved((host.name for host in known_hosts(connection, settings)), incomplete)
    except HarvestError:
        return []


def runs(context: click.Context, _parameter: click.Parameter, incomplete: str) -> list[str]:
    """Suggest runs, the newest first."""
    try:
        with reading.questions(settings_of(context.ensure_object(Flags)).state) as connection:
            return _sieved((run.name for run in reading.runs(connection)), incomplete)
    except HarvestError:
        return []


def runs_and_experiments(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Suggest runs and the directories of experiments."""
    try:
        with reading.questions(settings_of(context.ensure_object(Flags)).state) as connection:
            directories = (each.directory for each in reading.experiments(connection).values())
            return [*runs(context, parameter, incomplete), *_sieved(directories, incomplete)]
    except HarvestError:
        return []


def _sieved(names: Iterable[str], incomplete: str) -> list[str]:
    return list(dict.fromkeys(name for name in names if name.startswith(incomplete) and _HARMLESS.fullmatch(name)))
