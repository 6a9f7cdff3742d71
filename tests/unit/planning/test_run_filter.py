"""One run and what belongs to it, picked out of a box that shows others beside it."""

from msgspec.structs import replace

from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.rules import Selection
from harvestd.convention.scan.classify import survey
from harvestd.planning.destinations import possible
from support.box_trees import Box, Home, T, targets

OTHER = "run_2025-08-21_10-00-00"
LEAF = "qwen2_5_15_gsm8k_finetuned/step_10_gsm8k_r1_template/temp0.7_p1.0_r8"
BASE = "eval_runs/qwen2_5_15_gsm8k_finetuned/step_base_gsm8k_r1_template/temp0.7_p1.0_r8"


def picked(box: Box, run: str) -> set[str]:
    """Return what a plan for one run alone fetches."""
    home = Home(replace(Selection(), only=run))
    home.learn(box)
    return set(targets(home.plan(box)))


def box_of_two() -> Box:
    """Return a box with two runs, an eval of each, and a base eval."""
    box = Box()
    box.add_run()
    box.add_run(f"training_runs/{OTHER}")
    for run in (T, OTHER):
        box.add_leaf(f"eval_runs/{run}_gsm8k_r1_template/{LEAF}")
    box.add_leaf(BASE)
    return box


def test_nothing_of_another_run_is_planned() -> None:
    """The run, its evals and its base evals are, and everything else is not even waited for."""
    found = picked(box_of_two(), T)
    assert found
    assert {path.split("/")[1] for path in found} == {T, f"{T}_gsm8k_r1_template", "qwen2_5_15_gsm8k_finetuned"}


def test_base_eval_of_another_model_stays_away() -> None:
    """A base eval comes only where its model and dataset are the run's."""
    box = box_of_two()
    box.add_leaf("eval_runs/qwen2_5_05_gsm8k_finetuned/step_base_gsm8k/temp0.7_p1.0_r8")
    assert not any("qwen2_5_05" in path for path in picked(box, T))


def test_link_goes_before_the_name() -> None:
    """An eval belongs to the run that its eval_config.yaml names, whatever its directory is called."""
    box = box_of_two()
    for path, run in ((f"eval_runs/{OTHER}_gsm8k_r1_template", T), (f"eval_runs/{T}_gsm8k_r1_template", OTHER)):
        box.file(f"{path}/eval_config.yaml")
        box.eval_configs[path] = run
    evals = {path.split("/")[1] for path in picked(box, T) if path.startswith("eval_runs/run_")}
    assert evals == {f"{OTHER}_gsm8k_r1_template"}


def test_copy_beside_a_run_is_not_meant() -> None:
    """Of run_T and run_T_copy the one is picked that is called exactly so."""
    box = box_of_two()
    box.add_run(f"training_runs/{T}_copy", ConfigFacts("Qwen/Qwen2.5-1.5B", "qwen2_5_15", 32, "gsm8k"))
    shown = survey(box.snapshot(), Selection())
    assert [run.path.name for run in possible(shown, T).runs] == [T]
    assert [run.path.name for run in possible(shown, f"{T}_copy").runs] == [f"{T}_copy"]
    assert not any(f"{T}_copy/" in path for path in picked(box, T))


def test_waiting_is_told_of_the_run_alone() -> None:
    """What settles on another run does not hold this one up."""
    box = box_of_two()
    home = Home(Selection(only=T))
    home.learn(box)
    box.file(f"eval_runs/{T}_math/{LEAF}/metrics.csv", age=0)
    box.file(f"eval_runs/{OTHER}_math/{LEAF}/metrics.csv", age=0)
    assert [each.place.split("/")[5] for each in home.plan(box).waiting] == [f"{T}_math"]
