"""The names on a box that carry meaning."""

import pytest

from harvestd.convention.eval_names import DATASETS
from harvestd.convention.kinds import (
    EvalStep,
    EventsName,
    Finetuned,
    RunName,
    checkpoint_step,
    eval_step,
    events_name,
    finetuned,
    is_finetuned,
    run_name,
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("run_2025-08-20_03-31-43", RunName("run_2025-08-20_03-31-43", "2025-08-20_03-31-43", None)),
        (
            "run_2025-08-20_03-31-43_gsm8k_r1_template",
            RunName("run_2025-08-20_03-31-43", "2025-08-20_03-31-43", "gsm8k_r1_template"),
        ),
        ("run_2025-08-20_03-31-43_a\nb", RunName("run_2025-08-20_03-31-43", "2025-08-20_03-31-43", "a\nb")),
        ("run_2025-08-20_03-31-43_", None),
        ("run_2025-08-20_03-31-43 ", None),
        ("run_2025-08-20_03-31-4", None),
        ("run_2025-08-20", None),
        ("run_$RUN_ID_gsm8k", None),
        ("Run_2025-08-20_03-31-43", None),
        ("xrun_2025-08-20_03-31-43", None),
        ("run_2025-08-20_03-31-43\n", None),
        ("run_٢٠٢٥-08-20_03-31-43", None),
        ("", None),
    ],
)
def test_a_run_directory_is_told_by_its_exact_form(name: str, expected: RunName | None) -> None:
    """Only `run_` with a whole ASCII time, and a suffix behind an underscore, is a run's name."""
    assert run_name(name) == expected


def test_a_run_date_is_the_day_of_its_name() -> None:
    """The date in a directory's name is the first part of the run's time."""
    run = run_name("run_2025-08-20_03-31-43")
    assert run is not None
    assert run.date == "2025-08-20"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("step_40", "40"),
        ("step_final", "final"),
        ("step_0", "0"),
        ("step_latest", None),
        ("step_", None),
        ("step_40.tmp", None),
        ("step_40_old", None),
        ("step_-1", None),
        ("step_٤", None),
        ("..", None),
    ],
)
def test_a_checkpoint_directory_is_a_number_or_final(name: str, expected: str | None) -> None:
    """Anything but an ASCII number or "final" after `step_` is no checkpoint."""
    assert checkpoint_step(name) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("step_10_gsm8k_r1_template", EvalStep("10", "", "gsm8k_r1_template")),
        ("step_final_math", EvalStep("final", "", "math")),
        ("step_base_gsm8k", EvalStep("base", "", "gsm8k")),
        ("step_base_full_gsm8k", EvalStep("base", "full", "gsm8k")),
        ("step_base_full_gsm8k_r1_template", EvalStep("base", "full", "gsm8k_r1_template")),
        ("step_base_full_gsm8k_latex", EvalStep("base", "full", "gsm8k_latex")),
        ("step_base2_mathmix", EvalStep("base", "2", "mathmix")),
        ("step_base_full_newset", EvalStep("base", "", "full_newset")),
        ("step_base", EvalStep("base", "", "")),
        ("step_20_newset", EvalStep("20", "", "newset")),
        ("step_20", EvalStep("20", "", "")),
        ("step_20x_gsm8k", None),
        ("step_finals_gsm8k", None),
        ("step_x_gsm8k", None),
        ("temp0.7_p1.0_r8", None),
    ],
)
def test_an_eval_step_is_anchored_on_known_datasets(name: str, expected: EvalStep | None) -> None:
    """`base_full` is told from the dataset by the longest dataset that is known; without one nothing is guessed."""
    assert eval_step(name) == expected


def test_a_dataset_of_the_operator_anchors_a_base_step() -> None:
    """A dataset that the operator adds is told from the variant before it."""
    assert eval_step("step_base_full_newset", (*DATASETS, "newset")) == EvalStep("base", "full", "newset")
    assert eval_step("step_base_full_hard_math", (*DATASETS, "hard_math")) == EvalStep("base", "full", "hard_math")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("qwen2_5_15_gsm8k_finetuned", Finetuned("qwen2_5_15", "gsm8k")),
        ("qwen2_5_15_gsm8k_r1_template_finetuned", Finetuned("qwen2_5_15", "gsm8k_r1_template")),
        ("Qwen2.5-1.5B_gsm8k_finetuned", Finetuned("Qwen2.5-1.5B", "gsm8k")),
        ("llama_mathmix_finetuned", Finetuned("llama", "mathmix")),
        ("gsm8k_finetuned", None),
        ("_gsm8k_finetuned", None),
        ("qwen_newset_finetuned", None),
        ("qwen_gsm8k", None),
        ("qwen_gsm8k_finetuned2", None),
    ],
)
def test_a_backbone_is_told_from_a_known_dataset_only(name: str, expected: Finetuned | None) -> None:
    """Where the fine-tuning dataset is not known, where the backbone ends is not guessed."""
    assert finetuned(name) == expected


def test_a_finetuned_directory_of_an_unknown_dataset_is_still_one() -> None:
    """Evals below it must not be taken for strangers."""
    assert is_finetuned("qwen_newset_finetuned")
    assert not is_finetuned("qwen_newset")


@pytest.mark.parametrize(
    ("name", "epoch", "host"),
    [
        ("events.out.tfevents.1755660703.192-222-52-195.4242.0", 1755660703, "192-222-52-195"),
        ("events.out.tfevents.1755660703.node.cluster.example.4242.0", 1755660703, "node.cluster.example"),
        ("events.out.tfevents.1755660703.10.0.0.7.4242.0", 1755660703, "10.0.0.7"),
        ("events.out.tfevents.1755660703.gpu-a", 1755660703, "gpu-a"),
        ("events.out.tfevents.1755660703.gpu-a.4242.0.v2", 1755660703, "gpu-a"),
    ],
)
def test_a_tensorboard_file_names_its_writer(name: str, epoch: int, host: str) -> None:
    """The moment and the machine stand in the name; a machine's own name may hold dots."""
    assert events_name(name) == EventsName(epoch, host)


@pytest.mark.parametrize("name", ["events.out.tfevents.", "events.out.tfevents.x.gpu-a.1.0", "events", f"{'1' * 20}"])
def test_other_names_name_no_writer(name: str) -> None:
    """Without a moment it is no such file's name."""
    assert events_name(name) is None
