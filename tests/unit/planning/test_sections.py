"""A planner that needs files which are not in memory says which, all at once, and plans nothing without them."""

import pytest

from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.planning.records import NotLoaded, section_of, sections_in
from support.box_trees import MIB, Box, Home

RUNS = [f"run_2025-08-20_03-31-{second:02}" for second in range(30)]
BASE = "eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_full_gsm8k/temp0"


def test_sections_of_paths() -> None:
    """An experiment, its base evals, and each host's unfiled evals."""
    assert section_of(("exp", "training_run", "config.yaml")) == ("exp",)
    assert section_of(("exp", "eval_results", "base_eval", "a")) == ("exp",)
    assert section_of(("exp", "base_eval", "a")) == ("exp", "base_eval")
    assert section_of(("exp", "base_eval")) == ("exp",)
    assert section_of(("_unfiled", "gpu-a", "eval_runs", "a")) == ("_unfiled", "gpu-a")
    assert sections_in("exp") == (("exp",), ("exp", "base_eval"))


def test_a_base_eval_names_all_its_experiments_at_once() -> None:
    """One round of loading serves it, however many past experiments of its model there are."""
    home = Home()
    for number, name in enumerate(RUNS):
        past = Box(f"gone-{number}", f"static:gone-{number}")
        past.file(f"training_runs/{name}/config.yaml", 900)
        past.file(f"training_runs/{name}/training_state/step_64/model.pt", MIB)
        past.configs[f"training_runs/{name}"] = ConfigFacts("Qwen/Qwen2.5-1.5B", "qwen2_5_15", 64, "gsm8k")
        home.learn(past)
        home.do(home.plan(past), past)
    box = Box("gpu-a", "static:gpu-a")
    box.files(f"{BASE}/metrics.csv", f"{BASE}/run_meta.json")
    home.learn(box)
    directories = [each.directory for each in home.knowledge.experiments()]
    home.knowledge.mark_unloaded([section for each in directories for section in sections_in(each)], [])
    with pytest.raises(NotLoaded) as needed:
        home.plan(box)
    assert needed.value.sections == {(each, "base_eval") for each in directories}
    for section in needed.value.sections:
        home.knowledge.mark_loaded(section)
    targets = [target for group in home.plan(box).groups for file in group.files for target in file.targets]
    assert len(targets) == 2 * len(RUNS)
