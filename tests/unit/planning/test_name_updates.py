"""What an experiment is called once more is known of its run."""

import pytest
from msgspec.structs import replace

from harvestd.convention.kinds import RunName, run_name
from harvestd.convention.metadata.naming import UNKNOWN, ExperimentName, Part
from harvestd.planning.identity import BY_HAND, followed, given
from harvestd.planning.records import ExperimentRecord

NAME = ExperimentName(
    Part("trial", "naming.default_experiment"),
    Part("2025-08-20", "run directory"),
    Part("qwen2_5_1_5b", "config.yaml backbone"),
    Part("h100", "nvidia-smi"),
    Part("64", "config.yaml total_steps (provisional)"),
)
FACTS = replace(NAME, steps=Part("104", "step_final training_info.json"))


def _run() -> RunName:
    found = run_name("run_2025-08-20_03-31-43")
    assert found is not None
    return found


RUN = _run()


def _free(_directory: str) -> bool:
    return False


@pytest.mark.parametrize(
    ("now", "facts", "directory"),
    [
        (NAME, FACTS, "trial_2025-08-20_qwen2_5_1_5b_h100_104steps"),
        (NAME, NAME, NAME.directory),
        (NAME, replace(FACTS, hardware=Part(UNKNOWN, "no source")), "trial_2025-08-20_qwen2_5_1_5b_h100_104steps"),
        (NAME, replace(FACTS, steps=Part(UNKNOWN, "no source")), NAME.directory),
        (NAME, replace(FACTS, experiment_name=Part("other", "naming rule 1")), FACTS.directory),
        (
            NAME,
            replace(FACTS, hardware=Part("2x_h100", "nvidia-smi")),
            "trial_2025-08-20_qwen2_5_1_5b_2x_h100_104steps",
        ),
        (replace(NAME, experiment_name=Part("mine", BY_HAND)), FACTS, "mine_2025-08-20_qwen2_5_1_5b_h100_64steps"),
    ],
)
def test_a_name_follows_its_facts(now: ExperimentName, facts: ExperimentName, directory: str) -> None:
    """Model, hardware and steps become what is known; nothing becomes unknown again, and a person's word stands."""
    assert followed(ExperimentRecord("e1", now), facts, RUN, "gpu-a", _free).directory == directory


def test_a_directory_that_a_person_moved_keeps_its_name() -> None:
    """Whatever the facts say."""
    experiment = ExperimentRecord("e1", NAME, moved_to="my best run")
    assert followed(experiment, FACTS, RUN, "gpu-a", _free) == NAME
    assert experiment.directory == "my best run"


def test_a_name_that_is_taken_carries_the_full_time() -> None:
    """Nothing is renamed onto a directory that another experiment has."""
    name = followed(ExperimentRecord("e1", NAME), FACTS, RUN, "gpu-a", lambda taken: taken == FACTS.directory)
    assert name.directory == "trial_2025-08-20_03-31-43_qwen2_5_1_5b_h100_104steps"


def test_only_the_source_changes_where_the_value_does_not() -> None:
    """A provisional number that turns out right is provisional no more, and the date stays as it was made unique."""
    now = replace(NAME, date=Part("2025-08-20_03-31-43", "run directory (its day and settings are taken)"))
    facts = replace(NAME, steps=Part("64", "step_final training_info.json"))
    name = followed(ExperimentRecord("e1", now), facts, RUN, "gpu-a", lambda _: True)
    assert (name.directory, name.steps.source) == (now.directory, "step_final training_info.json")


def test_a_person_gives_the_first_part() -> None:
    """The other parts stay, and where it came from is on record."""
    name = given(NAME, "ablation", RUN, "gpu-a", _free)
    assert name.directory == "ablation_2025-08-20_qwen2_5_1_5b_h100_64steps"
    assert name.experiment_name.source == BY_HAND
