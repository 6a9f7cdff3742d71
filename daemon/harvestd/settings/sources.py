"""The sources of settings: the file, the environment, the flags.

Each is read alone and identifiable after the merge.

A source holds raw, nested tables; nothing is validated here. What can't be read at all becomes a problem, not an
exception, so that the other sources are still read. Only the environment that is passed is used.
"""

import stat
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import get_args

from msgspec import field
from pydantic import BaseModel

from harvestd.convention.structs import Immutable
from harvestd.settings.problems import Problem, model_in
from harvestd.settings.schema import DELIMITER, PREFIX, Place, Settings

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
    # pydantic-settings loads readers for five clouds: most calls have no setting in text form.
    from harvestd.settings.texts import NotJson, table_of  # noqa: PLC0415

    steps = name.lower().split(DELIMITER)
    try:
        table = table_of(steps, value)
    except NotJson:
        message = 'must be written as JSON here, such as ["a", "b"]'
        return Source(where, problems=(Problem(where, ".".join(steps), message),))
    # An unknown name is passed on unchanged, so that validation reports it.
    return Source(where, table or _nested(steps, value))


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
