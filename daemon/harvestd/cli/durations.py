"""A span of time as an option of a command, in the form of the configuration."""

from datetime import timedelta

import click

from harvestd.settings.units import duration_from


def span(_context: click.Context, _parameter: click.Parameter, value: str) -> timedelta:
    """Parse "90s", "10m" or "1h30m" (an option's callback); raise a usage error for anything else."""
    try:
        return duration_from(value)
    except ValueError as e:
        raise click.BadParameter(str(e)) from e
