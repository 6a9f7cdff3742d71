"""Which evals a job's dataset means, by the names of directories as the convention reads them."""

import pytest

from harvestd.lambda_eval.judging import is_of

RUN = "run_2025-08-20_03-31-43"


@pytest.mark.parametrize(
    ("leaf", "dataset", "expected"),
    [
        ((f"{RUN}_math", "q_gsm8k_finetuned", "step_10_math", "temp0.7_p1.0_r8", "metrics.csv"), "math", True),
        ((f"{RUN}_gsm8k", "results", "step_10", "metrics.csv"), "gsm8k", True),
        ((f"{RUN}_gsm8k_r1_template", "results", "step_10", "metrics.csv"), "gsm8k", False),
        ((f"{RUN}_hard_math", "results", "step_10", "metrics.csv"), "math", False),
        ((f"{RUN}_hard_math", "results", "step_10", "metrics.csv"), "hard_math", True),
        ((f"{RUN}_gsm8k", "q_finetuned", "step_final_hard_math", "metrics.csv"), "math", False),
        ((RUN, "math", "step_10", "metrics.csv"), "math", True),
        ((RUN, "results", "step_10", "metrics.csv"), "math", False),
    ],
)
def test_an_eval_is_of_the_dataset_that_a_directory_names(
    leaf: tuple[str, ...], dataset: str, *, expected: bool
) -> None:
    """The whole name, and not only its end."""
    assert is_of(leaf, dataset) is expected
