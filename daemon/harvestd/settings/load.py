"""Find the configuration and load it: flags override the environment, which overrides the file.

`load` returns valid settings or raises `InvalidSettings` with every problem. A reload calls it again and keeps the old
value when it raises.
"""

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from harvestd.errors import Fatal
from harvestd.settings.problems import InvalidSettings, Problem, child, described, key_at
from harvestd.settings.schema import CONTRADICTIONS, Place, Settings
from harvestd.settings.sources import Merged, environment_sources, file_source, flag_sources

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
        if not _stands(path):
            raise Fatal(f"{path}, given by {reason}, does not exist", hint=_HINT)
        return path
    places = tuple(_usual_places(environment))
    for path in places:
        if _stands(path):
            return path
    looked = "\n  ".join(("-c FILE", f"${CONFIG_VARIABLE}", *map(str, places)))
    beside = Path("config") / FILE
    hint = f"{beside} is read only where it is named: -c {beside}\n{_HINT}" if _stands(beside) else _HINT
    raise Fatal(f"no configuration found; looked for\n  {looked}", hint=hint)


def _usual_places(env: Mapping[str, str]) -> Iterator[Path]:
    # None of them depends on the working directory: the configuration in another user's directory could run programs,
    # by the OpenSSH files that it names. The base directory specification requires relative paths to be ignored.
    if env.get("XDG_CONFIG_HOME", "").startswith("/"):
        yield Path(env["XDG_CONFIG_HOME"]) / "harvestd" / FILE
    elif env.get("HOME"):
        yield Path(env["HOME"]) / ".config" / "harvestd" / FILE
    yield Path("/etc/harvestd") / FILE


def _stands(path: Path) -> bool:
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
        problems.extend(_told(errors, data, merged, blamed))
        if any(error["type"] == CONTRADICTIONS for error in errors):
            return None, problems
        blamed = {_standing(data, error["loc"]) for error in errors}
        pruned = _pruned(data, (), blamed)
        data = pruned if isinstance(pruned, dict) else {}


def _told(
    errors: Sequence[ErrorDetails], data: Mapping[str, object], merged: Merged, taken_out: set[Place]
) -> Iterator[Problem]:
    """Yield the errors, except those caused only by keys that were removed from their table."""
    for error in errors:
        for place, message, hint in described(error):
            if not any(out[: len(place)] == place for out in taken_out):
                yield Problem(merged.origin(place), key_at(place, data), message, hint)


def _standing(data: object, place: Place) -> Place:
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
