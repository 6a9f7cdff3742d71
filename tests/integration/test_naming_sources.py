"""What names a run where its config does not: other small files of the box, and the machine that wrote it."""

import json
from pathlib import Path

import pytest

from support.house import Workstation

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = "run_2025-08-20_03-31-43"


def wrote(root: Path, path: str, content: str, run: str = RUN) -> None:
    """Write a file of the run."""
    place = root / "training_runs" / run / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(content)


def parts(workstation: Workstation) -> dict[str, tuple[str, str]]:
    """Return the parts of the only experiment's name, each with its source."""
    ((name,),) = workstation.catalogue("SELECT name FROM experiments")
    return {part: (given["value"], given["source"]) for part, given in json.loads(str(name)).items()}


async def test_the_newest_checkpoint_names_the_model_of_a_silent_config(workstation: Workstation) -> None:
    """No file says the backbone but the adapters: the newest checkpoint's is read, though it does not come home."""
    root = workstation.add_box().root
    wrote(root, "config.yaml", "total_steps: 64\n")
    wrote(root, "training_state/step_9/model/adapter_config.json", '{"base_model_name_or_path": "old/Llama"}')
    wrote(root, "training_state/step_10/model/adapter_config.json", '{"base_model_name_or_path": "new/Llama-2"}')
    await workstation.once()
    assert parts(workstation)["model"] == ("llama_2", "adapter_config.json base_model_name_or_path")
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


async def named(workstation: Workstation, config: str) -> str:
    """Return the directory of an experiment whose run has this config.yaml, with its log's first line."""
    root = workstation.add_box().root
    wrote(root, "config.yaml", config)
    wrote(root, "logs/train_log.jsonl", '{"step": 1}\n')
    await workstation.once()
    return (workstation.experiment(RUN) or workstation.data).name


async def test_a_path_in_the_hub_cache_names_its_model(workstation: Workstation) -> None:
    """The directory's name holds the id that the cache's directory says, not the commit."""
    cached = "/home/ubuntu/.cache/huggingface/hub/models--Qwen--Qwen2.5-1.5B/snapshots/"
    commit = "8faed761d45a263340a0528343f099c05c9a4323"
    name = await named(workstation, f"backbone: {cached}{commit}\ntotal_steps: 64\n")
    assert "_qwen2_5_1_5b_" in name
    assert commit[:7] not in name


async def test_a_checkpoint_of_another_run_names_that_runs_model(workstation: Workstation) -> None:
    """Of a run that was trained from a run's checkpoint the model is the one that the first was trained from."""
    root = workstation.add_box().root
    parent = "run_2025-08-19_10-00-00"
    wrote(root, "config.yaml", "backbone: Qwen/Qwen2.5-1.5B\ntotal_steps: 64\n", parent)
    checkpoint = f"/lambda/nfs/localfs/training_runs/{parent}/training_state/step_final/model"
    wrote(root, "config.yaml", f"backbone: {checkpoint}\ntotal_steps: 64\n")
    await workstation.once()
    names = {str(name) for (name,) in workstation.catalogue("SELECT directory FROM experiments")}
    assert len(names) == 2
    assert all("_qwen2_5_1_5b_" in name for name in names)


async def test_a_checkpoint_directory_gives_way_to_the_adapter(workstation: Workstation) -> None:
    """A path that holds no model's name leaves the word to the next source, which is read for it."""
    root = workstation.add_box().root
    wrote(root, "config.yaml", "backbone: ./checkpoints/checkpoint-500\ntotal_steps: 64\n")
    wrote(root, "training_state/step_10/model/adapter_config.json", '{"base_model_name_or_path": "Qwen/Qwen2.5-1.5B"}')
    await workstation.once()
    assert parts(workstation)["model"] == ("qwen2_5_1_5b", "adapter_config.json base_model_name_or_path")


async def test_placeholders_of_a_config_are_resolved(workstation: Workstation) -> None:
    """`${model.path}` and `${trainer.max_steps}` name the experiment as if their values stood there."""
    name = await named(
        workstation,
        "backbone: ${model.path}\ntotal_steps: ${trainer.max_steps}\nmodel: {path: Qwen/Qwen2.5-1.5B}\n"
        "trainer: {max_steps: 64}\nlr: ${oc.env:LR}\n",
    )
    assert "_qwen2_5_1_5b_" in name
    assert name.endswith("_64steps")


async def test_a_config_with_aliases_names_its_experiment(workstation: Workstation) -> None:
    """What `yaml.dump` writes for a list that stands twice costs the config none of its facts."""
    name = await named(
        workstation,
        "optimizer:\n  betas: &id001\n  - 0.9\n  - 0.95\nother: *id001\nbackbone: Qwen/Qwen2.5-1.5B\n"
        "total_steps: 64\ngns_probe:\n  enabled: true\n",
    )
    assert name.startswith("gns_test_2025-08-20_qwen2_5_1_5b_")
    assert name.endswith("_64steps")


async def test_a_date_that_is_none_is_in_no_name(workstation: Workstation) -> None:
    """The TensorBoard file's time goes before that of a directory's name which holds none."""
    root = workstation.add_box().root
    run = "run_2026-13-45_99-99-99"
    wrote(root, "config.yaml", "backbone: Qwen/Qwen2.5-1.5B\ntotal_steps: 64\n", run)
    wrote(root, "tensorboard/events.out.tfevents.1755660703.gpu-a.1.0", "", run)
    await workstation.once()
    assert parts(workstation)["date"] == ("2025-08-20", "tfevents file")
    assert not list(workstation.data.glob("*13-45*"))
