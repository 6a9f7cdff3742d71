"""Load valid settings from a call's flags; raise `Fatal`, which `errors` prints."""

from datetime import timedelta
from pathlib import Path

import click

from harvestd.cli.flags import Flags
from harvestd.settings import Settings, find_config, load
from harvestd.settings.access import require_access, require_account
from harvestd.settings.types import duration_from


def config_of(flags: Flags) -> Path:
    """Return the path of the configuration file.

    Raise `Fatal` where there is none, and where it belongs to the machine's daemon and this process runs as another
    account.
    """
    config = find_config(flags.config)
    require_account(config)
    return config


def written_settings(flags: Flags) -> Settings:
    """Return the settings: flags override the environment, which overrides the file.

    Raise `InvalidSettings` with every problem.
    """
    return load(config_of(flags), flags.overrides)


def settings_of(flags: Flags) -> Settings:
    """Return the settings as `written_settings`.

    Raise `Fatal` where this process may not access data root or catalogue.
    """
    settings = written_settings(flags)
    require_access(settings)
    return settings


def span(_context: click.Context, _parameter: click.Parameter, value: str) -> timedelta:
    """Parse "90s", "10m" or "1h30m" (an option's callback); raise a usage error for anything else."""
    try:
        return duration_from(value)
    except ValueError as e:
        raise click.BadParameter(str(e)) from e


def optional_span(context: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    """Parse a span as `span` does; None where the option is not given."""
    return None if value is None else span(context, parameter, value)
