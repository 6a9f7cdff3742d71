"""Parsers for small remote files: configs of runs, evals and adapters, and training_info.json.

All input is untrusted. Sizes and depth are limited. YAML aliases are expanded only to small values, since expansion can
be unbounded. A value of the wrong type counts as absent, and so does a placeholder (`${model.path}`) that the same file
does not resolve. YAML values are constructed only as text, numbers and booleans: constructors of tags and timestamps
can raise any exception, and one invalid date must not make the rest of a file unreadable.

Resolves Hydra and OmegaConf placeholders (`${model.path}`) in a configuration from the same file. Pure, bounded. A
dotted key is absolute; a key with leading dots is relative to the mapping that holds the placeholder, as in
OmegaConf. A placeholder that needs a resolver (`${oc.env:HOME}`), has no target or refers back to itself counts as
absent.
"""

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from harvestd.convention.log_rows import number, step_of, whole
from harvestd.convention.structs import Immutable
from harvestd.json_text import json_value

_MAX_LOOKUPS: Final = 64
"""The number of placeholders that one value may depend on."""
_MAX_RESULT: Final = 1024
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
        if _MARK in text or len(text) > _MAX_RESULT:
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


MAX_FACT_BYTES = 64 * 1024
"""A config is a few KiB; a larger one is not read."""
BEGINNING = MAX_FACT_BYTES + 1
"""Bytes read from the beginning of a file: enough to detect one that is too large. The identity of a run
(`identity.Fingerprint`) is computed from as many."""
MAX_MARKER_BYTES = 1024 * 1024
"""A larger marker is not read as a whole, so whether it parses is not checked."""
_MAX_TEXT = 200


class InvalidFacts(ValueError):
    """The bytes are not a complete, well-formed file of their kind (yet); the message is the reason."""


class ConfigFacts(Immutable):
    """The fields of a run's config.yaml that naming and linking use; the schema is that of the training program."""

    backbone: str | None = None
    eval_backbone: str | None = None
    total_steps: int | None = None
    dataset: str | None = None
    """`scheduler.dataset_name`: the fine-tuning dataset."""
    gns_probe: bool = False


class RunSettings(Immutable):
    """The fields of a run's config.yaml that the training pictures use."""

    total_steps: int | None = None
    gns_window: int | None = None
    """`gns_probe.window_size`: log rows with a shorter window are diluted."""


class TrainingInfo(Immutable):
    """The fields of a checkpoint's training_info.json."""

    step: int | None = None
    backbone: str | None = None
    world_size: int | None = None


class EvalConfig(Immutable):
    """The fields of an eval_config.yaml: the run that it belongs to, and the settings of the evaluation."""

    training_run: str | None = None
    dataset: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    generations: int | None = None
    """`num_return_sequences`: answers per question."""
    subset: float | None = None
    """`subset_frac`: the fraction of the dataset's questions."""


def _mapping_from_yaml(raw: bytes) -> dict[str, Any]:
    from harvestd.convention.metadata.yaml import mapping_from_yaml  # noqa: PLC0415  (dear, and of use to few commands)

    _check_size(raw)
    return mapping_from_yaml(raw)


def _mapping_from_json(raw: bytes) -> dict[str, Any]:
    _check_size(raw)
    found = _json(raw)
    if not isinstance(found, dict):
        raise InvalidFacts("not a JSON object")
    return found


def _json(raw: bytes) -> object:
    try:
        return json_value(raw)
    except (ValueError, RecursionError) as e:
        raise InvalidFacts(f"not valid JSON: {type(e).__name__}") from e


def _check_size(raw: bytes) -> None:
    if len(raw) > MAX_FACT_BYTES:
        raise InvalidFacts(f"larger than {MAX_FACT_BYTES} bytes")


def _text(value: object) -> str | None:
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        return None
    # Escapes in YAML and JSON can produce lone surrogates, which no other text format or database accepts.
    return None if any("\ud800" <= character <= "\udfff" for character in value) else value


def parse_config(raw: bytes) -> ConfigFacts:
    """Parse a run's config.yaml; raise `InvalidFacts` if it is invalid."""
    config = _mapping_from_yaml(raw)
    return ConfigFacts(
        backbone=_text(value_at(config, "backbone")),
        eval_backbone=_text(value_at(config, "eval_backbone")),
        total_steps=step_of(value_at(config, "total_steps")),
        dataset=_text(value_at(config, "scheduler", "dataset_name")),
        gns_probe=value_at(config, "gns_probe", "enabled") is True,
    )


def parse_run_settings(raw: bytes) -> RunSettings:
    """Parse a run's config.yaml; raise `InvalidFacts` if it is invalid."""
    config = _mapping_from_yaml(raw)
    return RunSettings(
        total_steps=step_of(value_at(config, "total_steps")),
        gns_window=step_of(value_at(config, "gns_probe", "window_size")),
    )


def parse_training_info(raw: bytes) -> TrainingInfo:
    """Parse a checkpoint's training_info.json; raise `InvalidFacts` if it is invalid: it must parse in a complete one.

    Its model_config is made from the run's configuration: a placeholder there is looked up in the copy of the latter.
    """
    info = _mapping_from_json(raw)
    training = info.get("training_config")
    config = {**training, **info} if isinstance(training, dict) else info
    return TrainingInfo(
        step=step_of(info.get("step")),
        backbone=_text(value_at(config, "model_config", "backbone")),
        world_size=step_of(value_at(info, "distributed_info", "world_size")),
    )


def parse_eval_config(raw: bytes) -> EvalConfig:
    """Parse an eval's eval_config.yaml; raise `InvalidFacts` if it is invalid."""
    config = _mapping_from_yaml(raw)
    return EvalConfig(
        training_run=_text(value_at(config, "training_run")),
        dataset=_text(value_at(config, "eval_dataset")),
        temperature=number(value_at(config, "temperature")),
        top_p=number(value_at(config, "top_p")),
        generations=whole(value_at(config, "num_return_sequences")),
        subset=number(value_at(config, "subset_frac")),
    )


def parse_adapter_config(raw: bytes) -> str | None:
    """Return the base model in an adapter_config.json (PEFT); None if it has none.

    It is an id, or a path as `models.model_id` accepts it. Raise `InvalidFacts` if the file is invalid.
    """
    return _text(_mapping_from_json(raw).get("base_model_name_or_path"))


def check_marker(raw: bytes) -> None:
    """Raise `InvalidFacts` unless `raw` is a complete JSON object or list, as a marker is."""
    if not isinstance(_json(raw), dict | list):
        raise InvalidFacts("not a JSON object or list")
