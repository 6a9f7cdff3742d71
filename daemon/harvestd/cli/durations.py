"""A span of time as an option of a command, written as in the configuration."""

from datetime import timedelta

import click

from harvestd.settings.units import duration_from


def span(_context: click.Context, _parameter: click.Parameter, value: str) -> timedelta:
    """Read "90s", "10m" or "1h30m" (an option's callback); a usage error where it is none."""
    try:
        return duration_from(value)
    except ValueError as e:
        raise click.BadParameter(str(e)) from e
