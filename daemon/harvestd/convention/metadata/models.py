"""The forms of model and GPU names that directory names contain."""

import re
from collections.abc import Iterable, Mapping, Sequence

from harvestd.convention.kinds import run_name

ALIASES: dict[str, str] = {
    "qwen2_5_15": "Qwen/Qwen2.5-1.5B",
    "qwen2_5_05": "Qwen/Qwen2.5-0.5B",
    "qwen2": "Qwen/Qwen2-0.5B",
}
"""Short names that occur on hosts; the operator can add more."""

_NOT_IN_NAMES = re.compile(r"[^a-z0-9]+")
_IN_CACHE = "models--"
"""Prefix of a directory in the Hugging Face cache; the rest is the id with its slash written as `--`."""
_FILE_SUFFIX = re.compile(r"\.(?:safetensors|gguf|bin|pth|pt|ckpt)\Z", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s_.=-]+")
_HASH = re.compile(r"(?=[a-z]*[0-9])[0-9a-f]{7,64}", re.ASCII)
_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)
_NUMBERED = re.compile(r"([a-z]*)[0-9]+k?", re.ASCII)
_SIZED = re.compile(r"[0-9](?:[._][0-9]+)?[bm](?![a-z0-9])", re.ASCII)
"""A parameter count in a model name: 1.5B, 8b, 350m."""
# fmt: off
_PLACES = frozenset((
    "actor", "adapter", "adapters", "artifacts", "backbone", "base", "best", "cache", "checkpoint", "checkpoints",
    "ckpt", "ckpts", "consolidated", "current", "dcp", "download", "downloads", "epoch", "epochs", "export", "final",
    "finetuned", "fsdp", "global", "hf", "hub", "huggingface", "iter", "iteration", "last", "latest", "lora", "main",
    "master", "merged", "model", "models", "of", "out", "output", "outputs", "peft", "policy", "pretrained",
    "pytorch", "rank", "refs", "resolve", "result", "results", "safetensors", "save", "saved", "saves", "shard",
    "snapshot", "snapshots", "state", "step", "steps", "train", "trained", "training", "transformers", "tree",
    "weights",
))
# fmt: on
"""Words of directory names that can hold any model and therefore name none."""


def model_in_names(model: str, aliases: Mapping[str, str] | None = None) -> str:
    """Return the form of a model id that directory names contain; empty if `model` names no model.

    >>> model_in_names("Qwen/Qwen2.5-1.5B"), model_in_names("meta-llama/Meta-Llama-3-8B")
    ('qwen2_5_1_5b', 'llama3_8b')
    """
    last = (model_id(model, aliases) or "").rsplit("/", 1)[-1].lower()
    last = last.replace("meta-", "").replace("llama-3", "llama3")
    return _NOT_IN_NAMES.sub("_", last).strip("_")


def model_id(reference: str, aliases: Mapping[str, str] | None = None) -> str | None:
    """Return the id, or else the name, of the model that `reference` names; None if it names none.

    A reference is an alias, an id of the Hugging Face hub, or a path. A path in the hub's cache contains the id. A path
    into a run directory names no model: see `run_of_reference`. In any other path, the last component counts that is
    not a hash or a word such as `model` or `checkpoint-500`. If it is not the path's last component, it must contain a
    parameter count, since the directory of a user or a project is not a model.
    """
    table = {**ALIASES, **(aliases or {})}
    if reference in table:
        return table[reference]
    parts = [part for part in reference.split("/") if part.strip(".~ ")]
    cached = [part.removeprefix(_IN_CACHE) for part in parts if part.startswith(_IN_CACHE)]
    if cached:
        return cached[-1].replace("--", "/") or None
    if run_of_reference(reference) is not None:
        return None
    for above, part in enumerate(reversed(parts)):
        name = _FILE_SUFFIX.sub("", part.partition("@")[0])
        if name in table:
            return table[name]
        if not _is_place(name):
            return name if above == 0 or _SIZED.search(name.lower()) else None
    return None


def _is_place(component: str) -> bool:
    """Return whether a path component is a hash, a number, or made of words of `_PLACES`, and so names no model."""
    lower = component.lower()
    words = filter(None, _SEPARATORS.split(lower))
    return bool(_UUID.fullmatch(lower)) or all(word in _PLACES or _is_counter(word) for word in words)


def _is_counter(word: str) -> bool:
    """Return whether a word is a hash, a number, or a word of `_PLACES` followed by a number: step3000."""
    numbered = _NUMBERED.fullmatch(word)
    return bool(_HASH.fullmatch(word)) or (numbered is not None and numbered[1] in {"", *_PLACES})


def run_of_reference(reference: str) -> str | None:
    """Return the name of the innermost run directory in a path, as written there; None if there is none."""
    return next((part for part in reversed(reference.split("/")) if run_name(part)), None)


_GPU_BRANDS = frozenset({"nvidia", "tesla", "geforce", "amd", "instinct", "radeon"})
_FAMILIES = frozenset({"rtx", "gtx", "gt", "titan", "quadro"})
"""First words that are not a type by themselves."""
_AFTER_THE_TYPE = re.compile(
    r"[0-9]+(?:gi?b)?|pcie|sxm[0-9]*|hbm[0-9a-z]*|nvl|generation|edition|server|workstation|gpu|with|graphics",
    re.ASCII,
)
_JOINED = re.compile(r"(rtx|gtx)([0-9a-z]+)", re.ASCII)
_WORKSTATION = re.compile(r"a[2-6][05]00", re.ASCII)
"""RTX A6000 and similar types, for which clouds omit the word RTX."""
_MODEL_NUMBER = re.compile(r"([0-9]{3,4})([a-z]*)", re.ASCII)
_INSTANCE_TYPE = re.compile(r"gpu_(?P<count>\d+)x_(?P<type>[a-z0-9][a-z0-9_]*)", re.ASCII)


def hardware_of_instance_type(instance_type: str, used: int | None = None) -> str | None:
    """Return the hardware of a cloud instance type: gpu_8x_h100_sxm5 → 8x_h100, gpu_1x_gh200 → gh200; None if no GPU.

    `used` overrides the count (training's world size). The type equals what `gpu_type` returns for nvidia-smi's name of
    the same GPU.
    """
    match = _INSTANCE_TYPE.match(instance_type)
    single = gpu_type(match["type"].replace("_", " ")) if match else None
    return counted(single, used or int(match["count"])) if match and single else None


def gpu_type(gpu_name: str) -> str | None:
    """Return the short type for nvidia-smi's name of a GPU: "NVIDIA A100-SXM4-40GB" → a100; None if nothing is left.

    If the first word is a family, the type includes the following words that distinguish its members:
    "NVIDIA GeForce RTX 4090" → rtx_4090, "NVIDIA RTX 6000 Ada Generation" → rtx_6000_ada.
    """
    words = [word for word in _words(gpu_name) if word not in _GPU_BRANDS]
    if words[:2] == ["quadro", "rtx"]:
        # Clouds omit "Quadro".
        del words[0]
    if not words:
        return None
    if _WORKSTATION.fullmatch(words[0]):
        return f"rtx_{words[0]}"
    if words[0] not in _FAMILIES:
        return words[0]
    return "_".join((words[0], *_members(words[1:])))


def _words(gpu_name: str) -> list[str]:
    joined = (_JOINED.fullmatch(word) for word in re.split(r"[\s-]+", gpu_name.lower()))
    split = (
        list(match.groups()) if match else [word]
        for match, word in zip(joined, re.split(r"[\s-]+", gpu_name.lower()), strict=True)
    )
    return [plain for words in split for word in words if (plain := _NOT_IN_NAMES.sub("", word))]


def _members(words: Iterable[str]) -> Iterable[str]:
    """Yield the words that distinguish members of a family: the first one, and those before the equipment details."""
    for place, word in enumerate(words):
        number = _MODEL_NUMBER.fullmatch(word)
        if number:
            yield from filter(None, number.groups())
        elif place and _AFTER_THE_TYPE.fullmatch(word):
            return
        else:
            yield word


def hardware_of_gpus(gpu_names: Sequence[str], used: int | None = None) -> str | None:
    """Return the hardware of a host from nvidia-smi's GPU names; `used` overrides the count (training's world size).

    Return None without GPUs and for mixed types, which are not guessed.
    """
    types = {gpu_type(name) for name in gpu_names}
    if len(types) != 1:
        return None
    single = types.pop()
    return counted(single, used or len(gpu_names)) if single else None


def counted(gpu: str, count: int) -> str:
    """Return a type with its count, which is omitted if it is one: h100, 8x_h100."""
    return gpu if count == 1 else f"{count}x_{gpu}"
