"""The flags of every command, before or after its name: `harvestd -c FILE once -c FILE`.

The later one of a repeated flag counts; `--set` adds up. Nothing here reads a file: `load_settings` does.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

import click
from msgspec import field
from msgspec.structs import replace

from harvestd.convention.structs import Immutable

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
