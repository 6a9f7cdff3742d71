"""Find the configuration and load it: flags override the environment, which overrides the file.

`load` returns valid settings or raises `InvalidSettings` with every problem. A reload calls it again and keeps the old
value when it raises.

The sources of settings: the file, the environment, the flags. Each is read alone and identifiable after the merge.

A source holds raw, nested tables; nothing is validated here. What can't be read at all becomes a problem, not an
exception, so that the other sources are still read. Only the environment that is passed is used.
"""

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, get_args

from msgspec import field
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from harvestd.convention.structs import Immutable
from harvestd.errors import Fatal
from harvestd.settings.problems import InvalidSettings, Problem, child, described, key_at, model_in
from harvestd.settings.schema import CONTRADICTIONS, DELIMITER, PREFIX, Place, Settings

if TYPE_CHECKING:
    from pydantic_settings import BaseSettings

Table = Mapping[str, object]

NOT_KEYS = frozenset({f"{PREFIX}CONFIG"})
"""Variables with the prefix of a key that are none."""


class Source(Immutable):
    """The content of one source."""

    where: str
    table: Table = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()


def file_source(path: Path) -> Source:
    """Return the source of a TOML file; its relative paths are relative to the file's directory."""
    where = str(path)
    try:
        # Checked before it is opened: opening a FIFO would block.
        if not stat.S_ISREG(path.stat().st_mode):
            return Source(where, problems=(Problem(where, "", "is not a regular file"),))
        with path.open("rb") as file:
            table = tomllib.load(file)
    except tomllib.TOMLDecodeError as e:
        return Source(where, problems=(Problem(where, "", f"is not TOML: {e}"),))
    except UnicodeDecodeError as e:
        return Source(where, problems=(Problem(where, "", f"is not UTF-8, from byte {e.start} on"),))
    except OSError as e:
        return Source(where, problems=(Problem(where, "", f"can't be read: {e.strerror or type(e).__name__}"),))
    return Source(where, _anchored(table, Settings, path.absolute().parent))


def environment_sources(env: Mapping[str, str]) -> Iterator[Source]:
    """Yield the source of each variable `HARVESTD_SECTION__KEY`, sorted by name; an empty one counts as not set."""
    for name in sorted(env):
        if name.startswith(PREFIX) and name not in NOT_KEYS and env[name]:
            yield _text_source(f"environment {name}", name.removeprefix(PREFIX), env[name])


def flag_sources(overrides: Mapping[str, str]) -> Iterator[Source]:
    """Yield the source of each flag by dotted key, such as {"poll.interval": "5s"}."""
    for key, value in overrides.items():
        yield _text_source("flag", key.replace(".", DELIMITER), value)


def _text_source(where: str, name: str, value: str) -> Source:
    """Return the source of one setting in text form; lists and tables are JSON there."""
    from pydantic_settings import EnvSettingsSource, SettingsError  # noqa: PLC0415  (see `_keys`)

    steps = name.lower().split(DELIMITER)
    source = EnvSettingsSource(_keys())
    source.env_vars = {PREFIX + DELIMITER.join(steps): value}
    try:
        table = source()
    except SettingsError:  # it may quote the value
        message = 'must be written as JSON here, such as ["a", "b"]'
        return Source(where, problems=(Problem(where, ".".join(steps), message),))
    # An unknown name is passed on unchanged, so that validation reports it.
    return Source(where, table or _nested(steps, value))


@cache
def _keys() -> "type[BaseSettings]":
    """Return the keys of `Settings` as a class that pydantic-settings looks up; it is never instantiated.

    It finds out from the models which keys hold lists and tables, which are JSON in text form.
    """
    # pydantic-settings loads readers for five clouds: most calls have no setting in text form.
    from pydantic_settings import BaseSettings, SettingsConfigDict  # noqa: PLC0415

    class Keys(Settings, BaseSettings):
        model_config = SettingsConfigDict(case_sensitive=True, env_prefix=PREFIX, env_nested_delimiter=DELIMITER)

    return Keys


def _nested(steps: list[str], value: str) -> Table:
    first, *rest = steps
    return {first: _nested(rest, value) if rest else value}


def _anchored(table: Table, model: type[BaseModel], base: Path) -> Table:
    """Return `table` with every relative path of this machine below `base`; values of other types are unchanged."""
    return {key: _anchored_value(value, model, key, base) for key, value in table.items()}


def _anchored_value(value: object, model: type[BaseModel], key: str, base: Path) -> object:
    field_info = model.model_fields.get(key)
    if field_info is None:
        return value
    if isinstance(value, list):
        return [_anchored_value(item, model, key, base) for item in value]
    inner = model_in(field_info.annotation)
    if inner is not None:
        return _anchored(value, inner, base) if isinstance(value, dict) else value
    if isinstance(value, str) and value and not value.startswith("~") and _holds_path(field_info.annotation):
        return str(base / value)
    return value


def _holds_path(annotation: object) -> bool:
    """Return whether a field's values are paths on this machine: those of a host are plain texts in the models."""
    return annotation is Path or any(_holds_path(part) for part in get_args(annotation))


class Merged:
    """The tables of several sources merged, and the source of each value."""

    def __init__(self, lowest: str) -> None:
        self._lowest = lowest
        self._origins: dict[Place, str] = {}
        self.table: dict[str, object] = {}

    def lay_over(self, source: Source) -> None:
        """Merge the values of `source` over the present ones; tables are merged, other values are replaced."""
        self._lay(self.table, source.table, (), source.where)

    def origin(self, place: Place) -> str:
        """Return the source of the value at `place`, or the lowest one where there is none or several."""
        for length in range(len(place), 0, -1):
            if place[:length] in self._origins:
                return self._origins[place[:length]]
        below = {where for key, where in self._origins.items() if key[: len(place)] == place}
        return below.pop() if len(below) == 1 else self._lowest

    def _lay(self, below: dict[str, object], above: Table, place: Place, where: str) -> None:
        for key, value in above.items():
            if isinstance(value, Mapping):
                inner = below.get(key)
                table: dict[str, object] = inner if isinstance(inner, dict) else {}
                below[key] = table
                self._lay(table, value, (*place, key), where)
            else:
                below[key] = value
            if not isinstance(value, Mapping) or not value:
                self._origins[(*place, key)] = where


FILE = "harvestd.toml"
CONFIG_VARIABLE = "HARVESTD_CONFIG"
NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})

FIRST_FILE = """\
version = 1
data_root = "~/data/downloaded_runs"

[ssh]
user = "ubuntu"
identity_files = ["~/.ssh/id_ed25519"]

[[hosts]]
name = "gpu-a"
address = "192.0.2.10"
"""
"""The smallest useful file, as an example for a user without one."""

_HINT = f"`harvestd demo` shows harvestd at work without one; a first {FILE} of ten lines:\n\n{FIRST_FILE}"


def find_config(explicit: Path | None, *, env: Mapping[str, str] | None = None) -> Path:
    """Return the configuration file to read; `env` replaces the process's environment if given.

    A file that is named explicitly, by `explicit` or by $HARVESTD_CONFIG, is never replaced by another. Raise `Fatal`
    with each place that was tried.
    """
    environment = os.environ if env is None else env
    asked: tuple[tuple[str, Path], ...] = ()
    if explicit is not None:
        asked = (("-c", explicit.expanduser()),)
    elif environment.get(CONFIG_VARIABLE):
        asked = ((f"${CONFIG_VARIABLE}", Path(environment[CONFIG_VARIABLE]).expanduser()),)
    for reason, path in asked:
        if not _exists(path):
            raise Fatal(f"{path}, given by {reason}, does not exist", hint=_HINT)
        return path
    places = tuple(_usual_places(environment))
    for path in places:
        if _exists(path):
            return path
    candidates = "\n  ".join(("-c FILE", f"${CONFIG_VARIABLE}", *map(str, places)))
    beside = Path("config") / FILE
    hint = f"{beside} is read only where it is named: -c {beside}\n{_HINT}" if _exists(beside) else _HINT
    raise Fatal(f"no configuration found; looked for\n  {candidates}", hint=hint)


def _usual_places(env: Mapping[str, str]) -> Iterator[Path]:
    # None of them depends on the working directory: the configuration in another user's directory could run programs,
    # by the OpenSSH files that it names. The base directory specification requires relative paths to be ignored.
    if env.get("XDG_CONFIG_HOME", "").startswith("/"):
        yield Path(env["XDG_CONFIG_HOME"]) / "harvestd" / FILE
    elif env.get("HOME"):
        yield Path(env["HOME"]) / ".config" / "harvestd" / FILE
    yield Path("/etc/harvestd") / FILE


def _exists(path: Path) -> bool:
    """Return whether the path exists, readable or not: `load` reports one that can't be read."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True
    return True


def load(path: Path, overrides: Mapping[str, str] = NO_OVERRIDES, *, env: Mapping[str, str] | None = None) -> Settings:
    """Return the settings at `path`, overridden by the environment, and that by `overrides` (dotted key → text).

    `env` replaces the process's environment if given. Raise `InvalidSettings` with every problem of all sources.
    """
    file = file_source(path)
    variables = environment_sources(os.environ if env is None else env)
    merged = Merged(file.where)
    problems: list[Problem] = []
    for source in (file, *variables, *flag_sources(overrides)):
        merged.lay_over(source)
        problems.extend(source.problems)
    settings, found = _validated(merged)
    problems.extend(found)
    if settings is None or problems:
        raise InvalidSettings(problems)
    return settings


def _validated(merged: Merged) -> tuple[Settings | None, list[Problem]]:
    """Validate; on failure, repeat without the invalid keys, since rules across keys need valid ones."""
    data = merged.table
    problems: list[Problem] = []
    blamed: set[Place] = set()
    while True:
        try:
            settings = Settings.model_validate(data)
        except ValidationError as e:
            errors = e.errors(include_url=False, include_input=False)
        else:
            return (None if problems else settings), problems
        problems.extend(_reported(errors, data, merged, blamed))
        if any(error["type"] == CONTRADICTIONS for error in errors):
            return None, problems
        blamed = {_existing_part(data, error["loc"]) for error in errors}
        pruned = _pruned(data, (), blamed)
        data = pruned if isinstance(pruned, dict) else {}


def _reported(
    errors: Sequence[ErrorDetails], data: Mapping[str, object], merged: Merged, taken_out: set[Place]
) -> Iterator[Problem]:
    """Yield the errors, except those caused only by keys that were removed from their table."""
    for error in errors:
        for place, message, hint in described(error):
            if not any(out[: len(place)] == place for out in taken_out):
                yield Problem(merged.origin(place), key_at(place, data), message, hint)


def _existing_part(data: object, place: Place) -> Place:
    """Return the part of `place` that exists in `data`: for a missing key, its table."""
    here = data
    for depth, step in enumerate(place):
        here = child(here, step)
        if here is None:
            return place[:depth]
    return place


def _pruned(value: object, place: Place, blamed: set[Place]) -> object:
    if isinstance(value, Mapping):
        return {k: _pruned(v, (*place, k), blamed) for k, v in value.items() if (*place, k) not in blamed}
    if isinstance(value, list):
        return [_pruned(v, (*place, i), blamed) for i, v in enumerate(value) if (*place, i) not in blamed]
    return value
