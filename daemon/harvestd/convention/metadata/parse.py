"""What the small files on a box say, read from their bytes: configs of runs, evals and adapters, training_info.json.

All of it is untrusted input: sizes are capped, YAML aliases count as small values only (they can expand without bound),
depth is limited, values of the wrong type count as absent, and so does a placeholder (`${model.path}`) that the same
file does not resolve. No YAML value is constructed but texts, numbers and booleans:
tags and timestamps run code that raises whatever it likes, and one odd date must not spoil the rest of a file.
"""

from typing import Any

from harvestd.convention.log_rows import number, step_of, whole
from harvestd.convention.metadata.placeholders import value_at
from harvestd.convention.structs import Immutable
from harvestd.json_text import json_value

MAX_FACT_BYTES = 64 * 1024
"""A config is a few KiB; a larger one is not read."""
BEGINNING = MAX_FACT_BYTES + 1
"""Bytes from the beginning of a file that are looked at: of one that is too large, enough to say so. What a run is
known by (`twins.Fingerprint`) rests on as many."""
MAX_MARKER_BYTES = 1024 * 1024
"""A larger marker is not read whole, so that it can't be told whether it parses."""
_MAX_TEXT = 200


class InvalidFacts(ValueError):
    """The bytes are not a complete, well-formed file of their kind (yet); the text says why."""


class ConfigFacts(Immutable):
    """What naming and linking need of a run's config.yaml; the source is the training program's own schema."""

    backbone: str | None = None
    eval_backbone: str | None = None
    total_steps: int | None = None
    dataset: str | None = None
    """`scheduler.dataset_name`: the fine-tuning dataset."""
    gns_probe: bool = False


class RunSettings(Immutable):
    """What the pictures of a training need of its run's config.yaml."""

    total_steps: int | None = None
    gns_window: int | None = None
    """`gns_probe.window_size`: rows of the log whose window is not as long are diluted."""


class TrainingInfo(Immutable):
    """What a checkpoint's training_info.json says."""

    step: int | None = None
    backbone: str | None = None
    world_size: int | None = None


class EvalConfig(Immutable):
    """What an eval_config.yaml says of the run it belongs to, and of how was evaluated."""

    training_run: str | None = None
    dataset: str | None = None
    temperature: float | None = None
    top_p: float | None = None
    generations: int | None = None
    """`num_return_sequences`: answers a question."""
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
    # Escapes in YAML and JSON can make lone surrogates, which no other text format or database takes.
    return None if any("\ud800" <= character <= "\udfff" for character in value) else value


def parse_config(raw: bytes) -> ConfigFacts:
    """Read a run's config.yaml; raises `InvalidFacts`."""
    config = _mapping_from_yaml(raw)
    return ConfigFacts(
        backbone=_text(value_at(config, "backbone")),
        eval_backbone=_text(value_at(config, "eval_backbone")),
        total_steps=step_of(value_at(config, "total_steps")),
        dataset=_text(value_at(config, "scheduler", "dataset_name")),
        gns_probe=value_at(config, "gns_probe", "enabled") is True,
    )


def parse_run_settings(raw: bytes) -> RunSettings:
    """Read a run's config.yaml; raises `InvalidFacts`."""
    config = _mapping_from_yaml(raw)
    return RunSettings(
        total_steps=step_of(value_at(config, "total_steps")),
        gns_window=step_of(value_at(config, "gns_probe", "window_size")),
    )


def parse_training_info(raw: bytes) -> TrainingInfo:
    """Read a checkpoint's training_info.json; raises `InvalidFacts`. That it parses is what completes a checkpoint.

    Its model_config is made from the run's configuration: a placeholder there is looked up in the copy of that.
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
    """Read an eval's eval_config.yaml; raises `InvalidFacts`."""
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
    """Return the model that an adapter_config.json (PEFT) was trained on, None where it says none.

    It is an id, or a path as `models.model_id` reads it. Raises `InvalidFacts`.
    """
    return _text(_mapping_from_json(raw).get("base_model_name_or_path"))


def check_marker(raw: bytes) -> None:
    """Raise `InvalidFacts` unless `raw` is a whole JSON object or list, as a marker is."""
    if not isinstance(_json(raw), dict | list):
        raise InvalidFacts("not a JSON object or list")
