"""Resolves Hydra and OmegaConf placeholders (`${model.path}`) in a configuration from the same file. Pure, bounded.

A dotted key is absolute; a key with leading dots is relative to the mapping that holds the placeholder, as in
OmegaConf. A placeholder that needs a resolver (`${oc.env:HOME}`), has no target or refers back to itself counts as
absent.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

_MAX_LOOKUPS: Final = 64
"""The number of placeholders that one value may depend on."""
_MAX_TEXT: Final = 1024
"""Characters of a text that is composed of placeholders."""
_PLACEHOLDER: Final = re.compile(r"\$\{([^${}]*)\}")
_KEY: Final = re.compile(r"\.*[^.\[\]:,\s]+(?:\.[^.\[\]:,\s]+|\[[^.\[\]:,\s]+\])*")
_MARK: Final = "${"


class _AbsentError(Exception):
    """A placeholder has no value."""


def value_at(config: Mapping[str, Any], *keys: str) -> Any:  # noqa: ANN401  (whatever a file holds)
    """Return the value of `config` at this path of keys with placeholders resolved, also on the way; None if absent."""
    try:
        return _Resolver(config).at(keys)
    except _AbsentError:
        return None


class _Resolver:
    """Resolves the placeholders of one lookup."""

    def __init__(self, config: Mapping[str, Any]) -> None:
        self._config = config
        self._left = _MAX_LOOKUPS
        self._open: list[tuple[str, ...]] = []
        """The paths that are being resolved: one that occurs again is a cycle."""

    def at(self, path: Sequence[str]) -> Any:  # noqa: ANN401  (as above)
        """Return the resolved value at an absolute path; raise `_AbsentError` if there is none."""
        key = tuple(path)
        if key in self._open or self._left <= 0:
            raise _AbsentError
        self._left -= 1
        self._open.append(key)
        found: Any = self._config
        for depth, each in enumerate(key):
            found = self._resolved(_child(found, each), key[:depth])
        self._open.pop()
        return found

    def _resolved(self, value: Any, above: tuple[str, ...]) -> Any:  # noqa: ANN401  (as above)
        """Resolve the placeholders in `value` of a mapping at `above`; a lone placeholder keeps its value's type."""
        if not isinstance(value, str) or _MARK not in value:
            return value
        lone = _PLACEHOLDER.fullmatch(value)
        if lone:
            return self.at(_path(lone[1], above))
        text = _PLACEHOLDER.sub(lambda match: self._text(match[1], above), value)
        # A remaining "${" is nested, escaped or incomplete.
        if _MARK in text or len(text) > _MAX_TEXT:
            raise _AbsentError
        return text

    def _text(self, key: str, above: tuple[str, ...]) -> str:
        found = self.at(_path(key, above))
        if isinstance(found, bool) or not isinstance(found, str | int):
            raise _AbsentError
        return str(found)


def _child(found: Any, key: str) -> Any:  # noqa: ANN401  (as above)
    if isinstance(found, Mapping) and key in found:
        return found[key]
    if isinstance(found, list) and key.isascii() and key.isdigit() and int(key[:6]) < len(found):
        return found[int(key[:6])]
    raise _AbsentError


def _path(key: str, above: tuple[str, ...]) -> tuple[str, ...]:
    """Return the absolute path of a placeholder's key; raise `_AbsentError` for a resolver or an invalid key."""
    stripped = key.strip()
    if not _KEY.fullmatch(stripped):
        raise _AbsentError
    names = stripped.lstrip(".")
    dots = len(stripped) - len(names)
    path = tuple(part.rstrip("]") for part in re.split(r"[.\[]", names))
    if not dots:
        return path
    # One dot is the mapping that holds the placeholder; each further dot is one level up.
    if dots - 1 > len(above):
        raise _AbsentError
    return (*above[: len(above) - (dots - 1)], *path)
