"""How models and GPUs are written in directory names."""

import re
from collections.abc import Mapping, Sequence

ALIASES: dict[str, str] = {
    "qwen2_5_15": "Qwen/Qwen2.5-1.5B",
    "qwen2_5_05": "Qwen/Qwen2.5-0.5B",
    "qwen2": "Qwen/Qwen2-0.5B",
}
"""Short names that occur on boxes; the operator can add more."""

_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
_INSTANCE_TYPE = re.compile(r"gpu_(?P<count>\d+)x_(?P<type>[a-z0-9]+)", re.ASCII)
_GPU_BRANDS = ("nvidia", "tesla", "geforce")


def model_in_names(model: str, aliases: Mapping[str, str] | None = None) -> str:
    """Give the form of a model's id that stands in directory names.

    >>> model_in_names("Qwen/Qwen2.5-1.5B"), model_in_names("meta-llama/Meta-Llama-3-8B")
    ('qwen2_5_1_5b', 'llama3_8b')
    """
    table = {**ALIASES, **(aliases or {})}
    last = table.get(model, model).rstrip("/").rsplit("/", 1)[-1].lower()
    last = last.replace("meta-", "").replace("llama-3", "llama3")
    return _NOT_IN_NAMES.sub("_", last).strip("_")


def hardware_of_instance_type(instance_type: str, used: int | None = None) -> str | None:
    """Give the hardware of a cloud's instance type: gpu_8x_h100_sxm5 → 8x_h100, gpu_1x_gh200 → gh200. None: no GPU.

    `used` overrides the count (training's world size).
    """
    match = _INSTANCE_TYPE.match(instance_type)
    return counted(match["type"], used or int(match["count"])) if match else None


def gpu_type(gpu_name: str) -> str | None:
    """Give the short type of what nvidia-smi calls a GPU: "NVIDIA A100-SXM4-40GB" → a100. None if nothing is left."""
    words = [word for word in gpu_name.lower().split() if word not in _GPU_BRANDS]
    short = re.split(r"[\s-]", words[0])[0] if words else ""
    return _NOT_IN_NAMES.sub("", short) or None


def hardware_of_gpus(gpu_names: Sequence[str], used: int | None = None) -> str | None:
    """Give the hardware of a box from nvidia-smi's names; `used` overrides the count (training's world size).

    None without GPUs and where types are mixed: that is refused, not guessed.
    """
    types = {gpu_type(name) for name in gpu_names}
    if len(types) != 1:
        return None
    single = types.pop()
    return counted(single, used or len(gpu_names)) if single else None


def counted(gpu: str, count: int) -> str:
    """Write a type with its count, which is dropped when it is one: h100, 8x_h100."""
    return gpu if count == 1 else f"{count}x_{gpu}"
