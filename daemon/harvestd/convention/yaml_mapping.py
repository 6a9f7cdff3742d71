"""YAML as far as it can be believed: from bytes to texts, whole numbers, booleans, lists and mappings of them, no more.

Only the parser's events are used; aliases are refused (they can expand without bound) and depth is limited. A module of
its own, imported by who has such a file before it: the library takes as long to import as a hundred files to read.
"""

import re
from collections.abc import Callable
from typing import Any

import yaml

from harvestd.convention.facts import InvalidFacts

_MAX_YAML_DEPTH = 32
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""libyaml's parser where PyYAML was built with it, many times faster; only its events are used, never its values."""
_YAML_TRUE = frozenset({"true", "yes", "on"})
_YAML_FALSE = frozenset({"false", "no", "off"})
_DECIMAL = re.compile(r"[-+]?[0-9]{1,18}")


Scalar = Callable[[Any, yaml.ScalarEvent], object]
"""Gives what a scalar stands for; the first argument is the loader."""


def mapping_from_yaml(raw: bytes) -> dict[str, Any]:
    """Read a whole document that is one mapping; raises `InvalidFacts`."""
    found = _read(raw, _scalar)
    if not isinstance(found, dict):
        raise InvalidFacts("not a YAML mapping")
    return found


def texts_from_yaml(raw: bytes) -> object:
    """Read a whole document, each scalar as the text that stands there, null as None; raises `InvalidFacts`."""
    return _read(raw, _text)


def _read(raw: bytes, scalar: Scalar) -> object:
    try:
        loader = _LOADER(raw)
        try:
            return _document(loader, scalar)
        finally:
            loader.dispose()
    except (yaml.YAMLError, ValueError, RecursionError) as e:
        raise InvalidFacts(str(e) if isinstance(e, InvalidFacts) else f"not valid YAML: {type(e).__name__}") from e


def _document(loader: Any, scalar: Scalar) -> object:  # noqa: ANN401  (two classes of PyYAML with one interface)
    loader.get_event()
    if not loader.check_event(yaml.DocumentStartEvent):
        raise InvalidFacts("an empty YAML file")
    loader.get_event()
    found = _value(loader, scalar, 1)
    loader.get_event()
    if not loader.check_event(yaml.StreamEndEvent):
        raise InvalidFacts("more than one YAML document")
    return found


def _value(loader: Any, scalar: Scalar, depth: int) -> Any:  # noqa: ANN401  (whatever stands there)
    """Take the next value: a mapping as a dict (of keys that stand twice the last one wins), a list, or a scalar."""
    if depth > _MAX_YAML_DEPTH:
        raise InvalidFacts(f"YAML nested deeper than {_MAX_YAML_DEPTH} levels is not read")
    event = loader.get_event()
    if isinstance(event, yaml.AliasEvent):
        raise InvalidFacts("YAML with aliases is not read")
    if isinstance(event, yaml.MappingStartEvent):
        mapping: dict[str, Any] = {}
        while not loader.check_event(yaml.MappingEndEvent):
            key = loader.peek_event()
            _value(loader, scalar, depth + 1)
            value = _value(loader, scalar, depth + 1)
            if isinstance(key, yaml.ScalarEvent):
                mapping[key.value] = value
        loader.get_event()
        return mapping
    if isinstance(event, yaml.SequenceStartEvent):
        items = []
        while not loader.check_event(yaml.SequenceEndEvent):
            items.append(_value(loader, scalar, depth + 1))
        loader.get_event()
        return items
    return scalar(loader, event)


def _text(loader: Any, event: yaml.ScalarEvent) -> str | None:  # noqa: ANN401  (as above)
    tag = event.tag or loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    return None if tag.endswith(":null") else str(event.value)


def _scalar(loader: Any, event: yaml.ScalarEvent) -> str | int | bool | None:  # noqa: ANN401  (as above)
    tag = event.tag or loader.resolve(yaml.ScalarNode, event.value, event.implicit)
    text = event.value
    match tag.rpartition(":")[2]:
        case "str":
            return text
        case "bool" if text.lower() in _YAML_TRUE | _YAML_FALSE:
            return text.lower() in _YAML_TRUE
        case "int" if _DECIMAL.fullmatch(text):
            return int(text)
    return None
