"""Parsers for small remote files: configs of runs, evals and adapters, and training_info.json.

All input is untrusted. Sizes and depth are limited. YAML aliases are expanded only to small values, since expansion can
be unbounded. A value of the wrong type counts as absent, and so does a placeholder (`${model.path}`) that the same file
does not resolve. YAML values are constructed only as text, numbers and booleans: constructors of tags and timestamps
can raise any exception, and one invalid date must not make the rest of a file unreadable.
"""

from typing import Any

from harvestd.convention.log_rows import number, step_of, whole
from harvestd.convention.metadata.placeholders import value_at
from harvestd.convention.structs import Immutable
from harvestd.json_text import json_value

MAX_FACT_BYTES = 64 * 1024
"""A config is a few KiB; a larger one is not read."""
BEGINNING = MAX_FACT_BYTES + 1
"""Bytes read from the beginning of a file: enough to detect one that is too large. The identity of a run
(`duplicates.Fingerprint`) is computed from as many."""
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
