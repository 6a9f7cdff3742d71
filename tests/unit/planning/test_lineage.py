"""The model of a run that was trained from another run's checkpoint."""

from collections.abc import Sequence

from harvestd.convention.metadata.naming import NamingFacts
from harvestd.convention.metadata.parse import ConfigFacts
from harvestd.convention.scan.snapshot import Version
from harvestd.planning.identity import Lineage, with_parents
from harvestd.planning.records import RunRecord

A, B, C = (f"run_2025-08-{day}_10-00-00" for day in (19, 20, 21))


def run(name: str, backbone: str | None, base_model: str | None = None) -> RunRecord:
    """Make a run."""
    place = f"/home/ubuntu/localfs/training_runs/{name}"
    config = ConfigFacts(backbone=backbone)
    return RunRecord("id", "storage", place, "gpu-a", name[:23], config, Version(1, 1), base_model=base_model)


def checkpoint(name: str) -> str:
    """Return the path of a run's final checkpoint."""
    return f"/lambda/nfs/localfs/training_runs/{name}/training_state/step_final/model"


def lineage(*runs: RunRecord) -> Lineage:
    """Follow references among these runs."""
    return Lineage(lambda name: [each for each in runs if each.name == name], {})


def test_a_chain_of_runs_is_followed_to_its_first_model() -> None:
    """A run from a run's checkpoint, which was itself trained from another's."""
    found = lineage(run(A, "Qwen/Qwen2.5-1.5B"), run(B, checkpoint(A)), run(C, checkpoint(B)))
    assert found.model_of_reference(checkpoint(C)) == "Qwen2.5-1.5B"


def test_a_cycle_and_an_unknown_run_have_no_model() -> None:
    """Runs that name each other, a run that names itself, and one that was never seen."""
    found = lineage(run(A, checkpoint(B)), run(B, checkpoint(A)), run(C, checkpoint(C)))
    assert [found.model_of_reference(checkpoint(name)) for name in (A, B, C)] == [None] * 3
    assert lineage().model_of_reference(checkpoint(A)) is None


def test_a_cycle_has_the_model_that_another_source_says() -> None:
    """The adapter of a run whose configuration leads nowhere names the model for all that came from it."""
    found = lineage(run(A, checkpoint(A), base_model="a/b"), run(B, checkpoint(A)))
    assert found.model_of_reference(checkpoint(B)) == "b"


def test_runs_of_one_name_with_unlike_models_are_not_believed() -> None:
    """Never guess between models; the whole name of the directory decides where there are copies."""
    copy = f"{A}_copy"
    assert lineage(run(A, "a/b"), run(A, "a/c")).model_of_reference(checkpoint(A)) is None
    assert lineage(run(A, "a/b"), run(A, "x/b")).model_of_reference(checkpoint(A)) == "b"
    assert lineage(run(A, "a/b"), run(copy, "a/c")).model_of_reference(checkpoint(copy)) == "c"


def test_a_long_chain_is_cut_off() -> None:
    """However many runs a host shows, a name costs a bounded walk."""

    def runs_named(name: str) -> Sequence[RunRecord]:
        number = int(name[4:8])
        return [run(name, checkpoint(f"run_{number + 1:04}-01-01_00-00-00"))] if number < 9999 else [run(name, "a/b")]

    assert Lineage(runs_named, {}).model_of_run("run_0001-01-01_00-00-00") is None


def test_evidence_takes_the_models_of_all_its_parents() -> None:
    """By the names of their directories, for naming."""
    evidence = NamingFacts(ConfigFacts(backbone=checkpoint(A)), base_model=checkpoint(B))
    known = {A: [run(A, "a/b")]}
    assert with_parents(evidence, lambda name: known.get(name, []), {}).parents == {A: "b"}
