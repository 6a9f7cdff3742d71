"""What names a run where its config does not: other small files of the box, and the machine that wrote it."""

import json
from pathlib import Path

import pytest

from support.house import Workstation

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = "run_2025-08-20_03-31-43"


def wrote(root: Path, path: str, content: str) -> None:
    """Write a file of the run."""
    place = root / "training_runs" / RUN / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content)


def parts(workstation: Workstation) -> dict[str, tuple[str, str]]:
    """Give the parts of the only experiment's name, each with its source."""
    ((name,),) = workstation.catalogue("SELECT name FROM experiments")
    return {part: (said["value"], said["source"]) for part, said in json.loads(str(name)).items()}


async def test_the_newest_checkpoint_names_the_model_of_a_silent_config(workstation: Workstation) -> None:
    """No file says the backbone but the adapters: the newest checkpoint's is read, though it does not come home."""
    root = workstation.add_box().root
    wrote(root, "config.yaml", "total_steps: 64\n")
    wrote(root, "training_state/step_9/model/adapter_config.json", '{"base_model_name_or_path": "old/Model"}')
    wrote(root, "training_state/step_10/model/adapter_config.json", '{"base_model_name_or_path": "new/Model-2"}')
    await workstation.once()
    assert parts(workstation)["model"] == ("model_2", "adapter_config.json base_model_name_or_path")
    assert not workstation.stands(RUN, "training_state")()


async def test_evals_name_the_model_of_a_run_that_says_nothing(workstation: Workstation) -> None:
    """An adapter that can't be read is passed over, and the directory of the run's evals is asked."""
    root = workstation.add_box().root
    wrote(root, "config.yaml", "total_steps: 64\n")
    wrote(root, "training_state/step_10/model/adapter_config.json", "{torn")
    leaf = f"../../eval_runs/{RUN}_gsm8k/qwen2_5_15_gsm8k_finetuned/step_10_gsm8k/temp0.7_p1.0_r8"
    wrote(root, f"{leaf}/metrics.csv", "q_idx\n0\n")
    await workstation.once()
    assert parts(workstation)["model"] == ("qwen2_5_1_5b", "its evals' directory")
