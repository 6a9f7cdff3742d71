"""A restricted YAML reader: from bytes to text, numbers, booleans, lists and mappings only.

Only the parser's events are used, and depth is limited. An alias is replaced by the value of its anchor if that is
small, else by null: `yaml.dump` writes an alias for any list that occurs twice, and without the limit a few lines could
expand to billions of values. This is a separate module, imported only when there is such a file: importing the library
takes as long as reading a hundred files.
"""

import re
from collections.abc import Callable
from typing import Any

import yaml

from harvestd.convention.metadata.parse import InvalidFacts

_MAX_YAML_DEPTH = 32
_MAX_ALIASED = 256
"""The greatest number of values (nested ones included) for which an alias is replaced by its anchor's value."""
_MERGE = "<<"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser where PyYAML was built with it, many times faster; only its events are used, never its values."""
_YAML_TRUE = frozenset({"true", "yes", "on"})
_YAML_FALSE = frozenset({"false", "no", "off"})
_DECIMAL = re.compile(r"[-+]?[0-9]{1,18}")
_FLOAT = re.compile(r"[-+]?(?:[0-9]{1,40}\.?[0-9]{0,40}|\.[0-9]{1,40})(?:[eE][-+]?[0-9]{1,3})?")


Scalar = Callable[[Any, yaml.ScalarEvent], object]
"""Returns the value of a scalar; the first argument is the loader."""


def mapping_from_yaml(raw: bytes) -> dict[str, Any]:
    """Return the mapping that is the only document; raise `InvalidFacts` if it is not one."""
    found = _read(raw, _scalar)
    if not isinstance(found, dict):
        raise InvalidFacts("not a YAML mapping")
    return found


def texts_from_yaml(raw: bytes) -> object:
    """Return the only document with each scalar as its text, null as None; raise `InvalidFacts` if it is invalid."""
    return _read(raw, _text)


def _read(raw: bytes, scalar: Scalar) -> object:
    try:
        loader = _LOADER(raw)
        try:
            return _Document(loader, scalar).read()
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise InvalidFacts(str(e) if isinstance(e, InvalidFacts) else f"not valid YAML: {type(e).__name__}") from e


class _Document:
    """Reads one document from the events of a loader."""

    def __init__(self, loader: Any, scalar: Scalar) -> None:  # noqa: ANN401  (two classes of PyYAML with one interface)
        self._loader = loader
        self._scalar = scalar
        self._anchors: dict[str, tuple[Any, int]] = {}
        """The small values of anchors, each with its count of values."""
        self._values = 0
        """The number of values read so far; values of aliases count at each use."""

    def read(self) -> object:
        """Return the value of the only document; raise `InvalidFacts` if it is invalid."""
        self._loader.get_event()
        if not self._loader.check_event(yaml.DocumentStartEvent):
            raise InvalidFacts("an empty YAML file")
        self._loader.get_event()
        found = self._value(1)
        self._loader.get_event()
        if not self._loader.check_event(yaml.StreamEndEvent):
            raise InvalidFacts("more than one YAML document")
        return found

    def _value(self, depth: int) -> Any:  # noqa: ANN401  (any YAML value)
        """Return the next value: a dict, a list, or a scalar."""
        if depth > _MAX_YAML_DEPTH:
            raise InvalidFacts(f"YAML nested deeper than {_MAX_YAML_DEPTH} levels is not read")
        event = self._loader.get_event()
        before = self._values
        self._values += 1
        if isinstance(event, yaml.AliasEvent):
            # Inside the value of its own anchor an alias is null: the anchor is registered at the value's end.
            found, values = self._anchors.get(event.anchor or "", (None, 1))
            self._values += values - 1
            return found
        if isinstance(event, yaml.MappingStartEvent):
            found = self._mapping(depth)
        elif isinstance(event, yaml.SequenceStartEvent):
            found = []
            while not self._loader.check_event(yaml.SequenceEndEvent):
                found.append(self._value(depth + 1))
            self._loader.get_event()
        else:
            found = self._scalar(self._loader, event)
        if event.anchor is not None:
            self._anchors.pop(event.anchor, None)
            if self._values - before <= _MAX_ALIASED:
                self._anchors[event.anchor] = (found, self._values - before)
        return found

    def _mapping(self, depth: int) -> dict[str, Any]:
        """Return the next mapping; of duplicate keys the last one wins, and any key wins over `<<`."""
        mapping: dict[str, Any] = {}
        merged: list[Any] = []
        while not self._loader.check_event(yaml.MappingEndEvent):
            key = self._loader.peek_event()
            self._value(depth + 1)
            value = self._value(depth + 1)
            if not isinstance(key, yaml.ScalarEvent):
                continue
            if key.value == _MERGE and key.implicit[0]:
                merged = value if isinstance(value, list) else [value]
            else:
                mapping[key.value] = value
        self._loader.get_event()
        for each in merged:
            if isinstance(each, dict):
                mapping = {**each, **mapping}
        return mapping


def _text(loader: Any, event: yaml.ScalarEvent) -> str | None:  # noqa: ANN401  (as above)
    tag = event.tag or loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    return None if tag.endswith(":null") else str(event.value)


def _scalar(loader: Any, event: yaml.ScalarEvent) -> str | float | bool | None:  # noqa: ANN401  (as above)
    tag = event.tag or loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    text = event.value
    match tag.rpartition(":")[2]:
        case "str":
            return text
        case "bool" if text.lower() in _YAML_TRUE | _YAML_FALSE:
            return text.lower() in _YAML_TRUE
        case "int" if _DECIMAL.fullmatch(text):
            return int(text)
        case "float" if _FLOAT.fullmatch(text):
            return float(text)
    return None
