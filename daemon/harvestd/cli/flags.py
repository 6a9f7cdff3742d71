"""The flags of every command, before or after its name, and the settings that they select.

The later one of a repeated flag counts; `--set` adds up. Only the functions that load settings read a file.
"""

from collections.abc import Callable, Mapping
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import click
from msgspec import field
from msgspec.structs import replace

from harvestd.convention.structs import Immutable

if TYPE_CHECKING:
    from harvestd.settings import Settings

Format = Literal["auto", "json", "console"]
Level = Literal["debug", "info", "warning", "error"]

CommandT = TypeVar("CommandT", bound=Callable[..., Any] | click.Command)


class Flags(Immutable):
    """The flags of one call; the object of click's context."""

    config: Path | None = None
    log_level: Level | None = None
    """None: the command's own default."""
    log_format: Format = "auto"
    overrides: Mapping[str, str] = field(default_factory=dict)
    """By dotted key, such as {"poll.interval": "5s"}."""

    @property
    def form_for_people(self) -> Format:
        """The form of events beside an answer: readable text, wherever it goes, unless JSON was requested."""
        return "console" if self.log_format == "auto" else self.log_format


def _keep(context: click.Context, parameter: click.Parameter, value: object) -> None:
    """Store a flag in the context, which the command after this one shares."""
    flags = context.ensure_object(Flags)
    if value is not None and parameter.name:
        # Any: the type depends on the field, which only the option's name identifies.
        given: dict[str, Any] = {parameter.name: value}
        context.obj = replace(flags, **given)


def _keep_overrides(context: click.Context, _parameter: click.Parameter, pairs: tuple[str, ...]) -> None:
    flags = context.ensure_object(Flags)
    overrides = dict(flags.overrides)
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not key or not equals:
            raise click.BadParameter(f"{pair!r} is not KEY=VALUE, such as poll.interval=5s")
        overrides[key] = value
    context.obj = replace(flags, overrides=overrides)


_OPTIONS = (
    click.option(
        "-c",
        "--config",
        metavar="FILE",
        type=click.Path(path_type=Path),
        expose_value=False,
        callback=_keep,
        help="The configuration; else $HARVESTD_CONFIG, or the usual places.",
    ),
    click.option(
        "--set",
        "overrides",
        metavar="KEY=VALUE",
        multiple=True,
        expose_value=False,
        callback=_keep_overrides,
        help="Set one key over file and environment, e.g. poll.interval=5s. Repeatable.",
    ),
    click.option(
        "--log-level",
        type=click.Choice(("debug", "info", "warning", "error")),
        expose_value=False,
        callback=_keep,
        help="Events from this level on.",
    ),
    click.option(
        "--log-format",
        type=click.Choice(("auto", "json", "console")),
        expose_value=False,
        callback=_keep,
        help="The form of events.",
    ),
)

with_json: Callable[[CommandT], CommandT] = click.option(
    "--json", "as_json", is_flag=True, help="Print one JSON document and nothing else."
)
"""Adds `--json` as the argument `as_json` to a command that answers."""


def with_flags(command: CommandT) -> CommandT:
    """Add the flags to a command or to the group; `click.pass_obj` passes their values."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def config_of(flags: Flags) -> Path:
    """Return the path of the configuration file.

    Raise `Fatal` where there is none, and where it belongs to the machine's daemon and this process runs as another
    account.
    """
    from harvestd.settings import find_config  # noqa: PLC0415  (pydantic: the list of commands needs none of it)
    from harvestd.settings.access import require_account  # noqa: PLC0415  (the same)

    config = find_config(flags.config)
    require_account(config)
    return config


def written_settings(flags: Flags) -> "Settings":
    """Return the settings: flags override the environment, which overrides the file.

    Raise `InvalidSettings` with every problem.
    """
    from harvestd.settings import load  # noqa: PLC0415  (the same)

    return load(config_of(flags), flags.overrides)


def settings_of(flags: Flags) -> "Settings":
    """Return the settings as `written_settings`.

    Raise `Fatal` where this process may not access data root or catalogue.
    """
    from harvestd.settings.access import require_access  # noqa: PLC0415  (the same)

    settings = written_settings(flags)
    require_access(settings)
    return settings


def span(_context: click.Context, _parameter: click.Parameter, value: str) -> timedelta:
    """Parse "90s", "10m" or "1h30m" (an option's callback); raise a usage error for anything else."""
    from harvestd.settings.types import duration_from  # noqa: PLC0415  (the same)

    try:
        return duration_from(value)
    except ValueError as e:
        raise click.BadParameter(str(e)) from e


def optional_span(context: click.Context, parameter: click.Parameter, value: str | None) -> timedelta | None:
    """Parse a span as `span` does; None where the option is not given."""
    return None if value is None else span(context, parameter, value)
