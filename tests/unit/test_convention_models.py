"""How models and GPUs are written in directory names."""

import pytest

from harvestd.convention.models import counted, gpu_type, hardware_of_gpus, hardware_of_instance_type, model_in_names


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ("Qwen/Qwen2.5-1.5B", "qwen2_5_1_5b"),
        ("Meta-Llama-3-8B", "llama3_8b"),
        ("meta-llama/Meta-Llama-3-8B", "llama3_8b"),
        ("meta-llama/Llama-3.1-8B", "llama3_1_8b"),
        ("Qwen2.5-1.5B-Instruct", "qwen2_5_1_5b_instruct"),
        ("qwen2_5_15", "qwen2_5_1_5b"),
        ("qwen2_5_05", "qwen2_5_0_5b"),
        ("qwen2", "qwen2_0_5b"),
        ("/lambda/nfs/models/Qwen2.5-1.5B/", "qwen2_5_1_5b"),
        ("../../etc/passwd", "passwd"),
        ("...", ""),
        ("模型", ""),
        ("a\x1b[31m/b\nc", "b_c"),
    ],
)
def test_a_model_becomes_plain_characters(model: str, expected: str) -> None:
    """The last part of an id, lower case, with nothing but letters, digits and underscores; an alias is its id."""
    assert model_in_names(model) == expected


def test_an_alias_of_the_operator_goes_before_the_built_in_ones() -> None:
    """The operator knows what a short name stands for on these boxes."""
    assert model_in_names("qwen2", {"qwen2": "Qwen/Qwen2-7B"}) == "qwen2_7b"


@pytest.mark.parametrize(
    ("instance_type", "expected"),
    [
        ("gpu_8x_h100_sxm5", "8x_h100"),
        ("gpu_1x_h100_pcie", "h100"),
        ("gpu_8x_a100_80gb_sxm4", "8x_a100"),
        ("gpu_1x_gh200", "gh200"),
        ("gpu_2x_a6000", "2x_a6000"),
        ("cpu_4x_general", None),
        ("", None),
    ],
)
def test_hardware_of_an_instance_type(instance_type: str, expected: str | None) -> None:
    """Suffixes and a count of one are dropped."""
    assert hardware_of_instance_type(instance_type) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("NVIDIA A100-SXM4-40GB", "a100"),
        ("Tesla V100-SXM2-16GB", "v100"),
        ("NVIDIA GeForce RTX 4090", "rtx"),
        ("NVIDIA", None),
        ("", None),
        ("-", None),
        ("NVIDIA ../../x", "x"),
    ],
)
def test_a_gpu_is_called_by_its_type(name: str, expected: str | None) -> None:
    """Brands are stripped, the rest is cut at the first space or hyphen; nothing of it can lead anywhere."""
    assert gpu_type(name) == expected


def test_several_gpus_of_one_type_are_counted() -> None:
    """The count is nvidia-smi's rows, or what the training really used."""
    assert hardware_of_gpus(["NVIDIA H100 80GB HBM3"] * 8) == "8x_h100"
    assert hardware_of_gpus(["NVIDIA H100 80GB HBM3"] * 8, used=2) == "2x_h100"
    assert hardware_of_gpus(["NVIDIA H100 80GB HBM3"]) == "h100"


def test_mixed_or_missing_gpus_are_refused_not_guessed() -> None:
    """A box with GPUs of two types has no name for its hardware, nor has one without."""
    assert hardware_of_gpus(["NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"]) is None
    assert hardware_of_gpus([]) is None
    assert hardware_of_gpus(["NVIDIA"]) is None


def test_a_count_of_one_is_dropped() -> None:
    """One GPU is called by its type alone."""
    assert (counted("h100", 1), counted("h100", 2)) == ("h100", "2x_h100")
