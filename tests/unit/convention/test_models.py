"""How models and GPUs are written in directory names."""

import pytest

from harvestd.convention.metadata.models import (
    counted,
    gpu_type,
    hardware_of_gpus,
    hardware_of_instance_type,
    model_id,
    model_in_names,
    run_of_reference,
)

HASH = "8faed761d45a263340a0528343f099c05c9a4323"


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
        (f"/home/ubuntu/.cache/huggingface/hub/models--Qwen--Qwen2.5-1.5B/snapshots/{HASH}", "qwen2_5_1_5b"),
        ("/root/.cache/hub/models--gpt2", "gpt2"),
        ("/data/Qwen2.5-1.5B/model", "qwen2_5_1_5b"),
        ("/data/Qwen2.5-1.5B/model-00001-of-00002.safetensors", "qwen2_5_1_5b"),
        ("/data/qwen2_5_15/step_10", "qwen2_5_1_5b"),
        ("/models/Qwen2.5-1.5B-Q4_K_M.gguf", "qwen2_5_1_5b_q4_k_m"),
        ("https://huggingface.co/Qwen/Qwen2.5-1.5B/tree/main", "qwen2_5_1_5b"),
        (f"Qwen/Qwen2.5-1.5B@{HASH}", "qwen2_5_1_5b"),
        ("EleutherAI/pythia-70m/step3000", "pythia_70m"),
        ("microsoft/phi-2", "phi_2"),
    ],
)
def test_a_model_becomes_plain_characters(model: str, expected: str) -> None:
    """The last part of an id, lower case, with nothing but letters, digits and underscores; an alias is its id."""
    assert model_in_names(model) == expected


@pytest.mark.parametrize(
    "reference",
    [
        HASH,
        HASH[:7],
        f"/models/{HASH}",
        "/models/2025-08-20/550e8400-e29b-41d4-a716-446655440000",
        "model",
        "org/model",
        "./checkpoints/checkpoint-500",
        "checkpoint-500",
        "/home/bob/checkpoint-500/",
        "/home/bob/best_model/final",
        "~/step_final/model",
        "epoch=3-step=100.ckpt",
        "../outputs/global_step_100/actor/huggingface",
        "/lambda/nfs/localfs/training_runs/run_2025-08-19_10-00-00/training_state/step_final/model",
        "/lambda/nfs/run_2025-08-19_10-00-00/Qwen2.5-1.5B",
        "models--",
        "",
        "/",
    ],
)
def test_a_place_names_no_model(reference: str) -> None:
    """A hash, a word that any model's place is called by, or another run's checkpoint is no model's name."""
    assert model_in_names(reference) == ""
    assert model_id(reference) is None


@pytest.mark.parametrize(
    ("reference", "expected"),
    [
        ("/x/run_2025-08-19_10-00-00/training_state/step_final/model", "run_2025-08-19_10-00-00"),
        ("run_2025-08-19_10-00-00_copy", "run_2025-08-19_10-00-00_copy"),
        ("Qwen/Qwen2.5-1.5B", None),
    ],
)
def test_a_path_into_a_run_names_the_run(reference: str, expected: str | None) -> None:
    """The directory's whole name, wherever on the path it stands."""
    assert run_of_reference(reference) == expected


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
        ("gpu_2x_a6000", "2x_rtx_a6000"),
        ("gpu_1x_rtx6000", "rtx_6000"),
        ("gpu_4x_rtx4090", "4x_rtx_4090"),
        ("gpu_1x_rtx_6000_ada", "rtx_6000_ada"),
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
        ("NVIDIA GeForce RTX 4090", "rtx_4090"),
        ("NVIDIA GeForce RTX 4080 SUPER", "rtx_4080_super"),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "rtx_4090_laptop"),
        ("NVIDIA GeForce GTX 1080 Ti", "gtx_1080_ti"),
        ("NVIDIA GeForce GTX 1060 6GB", "gtx_1060"),
        ("NVIDIA RTX A6000", "rtx_a6000"),
        ("NVIDIA RTX 6000 Ada Generation", "rtx_6000_ada"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtx_pro_6000_blackwell"),
        ("Quadro RTX 6000", "rtx_6000"),
        ("Quadro P6000", "quadro_p6000"),
        ("NVIDIA TITAN RTX", "titan_rtx"),
        ("NVIDIA TITAN V", "titan_v"),
        ("NVIDIA GH200 480GB", "gh200"),
        ("AMD Instinct MI300X", "mi300x"),
        ("NVIDIA", None),
        ("", None),
        ("-", None),
        ("NVIDIA ../../x", "x"),
    ],
)
def test_a_gpu_is_called_by_its_type(name: str, expected: str | None) -> None:
    """Brands and equipment are left out; of a family's card its number is kept; nothing of it can lead anywhere."""
    assert gpu_type(name) == expected


@pytest.mark.parametrize(
    ("instance_type", "gpu_name"),
    [
        ("gpu_1x_h100_pcie", "NVIDIA H100 PCIe"),
        ("gpu_1x_h100_sxm5", "NVIDIA H100 80GB HBM3"),
        ("gpu_1x_a100_sxm4", "NVIDIA A100-SXM4-40GB"),
        ("gpu_1x_gh200", "NVIDIA GH200 480GB"),
        ("gpu_1x_a10", "NVIDIA A10"),
        ("gpu_1x_a6000", "NVIDIA RTX A6000"),
        ("gpu_1x_rtx6000", "Quadro RTX 6000"),
        ("gpu_1x_b200_sxm6", "NVIDIA B200"),
    ],
)
def test_cloud_and_driver_call_a_gpu_alike(instance_type: str, gpu_name: str) -> None:
    """One host has one name, whichever of its sources answers first."""
    assert hardware_of_instance_type(instance_type) == hardware_of_gpus([gpu_name])


def test_several_gpus_of_one_type_are_counted() -> None:
    """The count is nvidia-smi's rows, or what the training really used."""
    assert hardware_of_gpus(["NVIDIA H100 80GB HBM3"] * 8) == "8x_h100"
    assert hardware_of_gpus(["NVIDIA H100 80GB HBM3"] * 8, used=2) == "2x_h100"
    assert hardware_of_gpus(["NVIDIA H100 80GB HBM3"]) == "h100"


def test_mixed_or_missing_gpus_are_refused_not_guessed() -> None:
    """A box with GPUs of two types has no name for its hardware, nor has one without."""
    assert hardware_of_gpus(["NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-40GB"]) is None
    assert hardware_of_gpus(["NVIDIA GeForce RTX 4090", "NVIDIA GeForce RTX 3090"]) is None
    assert hardware_of_gpus([]) is None
    assert hardware_of_gpus(["NVIDIA"]) is None


def test_a_count_of_one_is_dropped() -> None:
    """One GPU is called by its type alone."""
    assert (counted("h100", 1), counted("h100", 2)) == ("h100", "2x_h100")
