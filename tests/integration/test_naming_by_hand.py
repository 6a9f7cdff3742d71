"""`harvestd name` and `harvestd experiments`, as a person uses them."""

import shutil

import anyio
import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import BatchEvalWriter, RunWriter, evals_of_run
from harvestd.errors import ExitCode
from support.command import Ended, harvestd_command
from support.house import Workstation
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=8)
FIRST = "gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps"
GIVEN = "ablation_2025-08-20_qwen2_5_1_5b_h100_8steps"


def asking(workstation: Workstation, *arguments: str) -> Ended:
    """Run a command with the workstation's configuration."""
    return harvestd_command("-c", workstation.config, *arguments)


def directories(workstation: Workstation) -> list[str]:
    """Return what stands in the data root."""
    return sorted(path.name for path in workstation.data.iterdir() if path.is_dir() and not path.name.startswith("."))


async def test_person_names_an_experiment(workstation: Workstation) -> None:
    """The directory follows at once, facts don't rename it any more, and it is known by its old name too."""
    writer = RunWriter(workstation.add_box().root, RUN)
    writer.start()
    writer.log_until(4)
    await workstation.once()
    done = asking(workstation, "name", RUN.name, "ablation", "--json")
    assert done.code == ExitCode.OK, done.err
    assert done.document["outcome"] == f"{GIVEN} now"
    assert directories(workstation) == [GIVEN]
    workstation.audit()
    writer.log_until(10)
    writer.finish()
    await workstation.once()
    assert directories(workstation) == [GIVEN]
    shown = asking(workstation, "show", FIRST, "--json").document
    assert shown["experiment"] == GIVEN
    assert shown["aliases"] == [FIRST]
    assert shown["name"]["experiment_name"] == {"value": "ablation", "source": "harvestd name"}
    (listed,) = asking(workstation, "experiments", "--json").document["experiments"]
    assert (listed["experiment"], listed["finished"], listed["runs"]) == (GIVEN, True, [RUN.name])
    assert listed["bytes"] == sum(len(each) for each in workstation.filed().values() if isinstance(each, bytes))
    assert GIVEN in asking(workstation, "experiments").out
    workstation.audit()


async def test_names_that_can_not_be(workstation: Workstation) -> None:
    """A name that is no plain text is refused with a hint, a run that nobody knows ends with 4; nothing moves."""
    writer = RunWriter(workstation.add_box().root, RUN)
    writer.start()
    await workstation.once()
    for name in ("../up", "a b", "", ".hidden", "x" * 101, "tab\t"):
        done = asking(workstation, "name", RUN.name, name)
        assert done.code == ExitCode.CONFIGURATION
        assert "hint" in done.err
    assert asking(workstation, "name", "run_2020-01-01_00-00-00", "ablation").code == ExitCode.UNKNOWN_NAME
    assert directories(workstation) == [FIRST]


async def test_evals_whose_run_nobody_saw_are_filed_by_hand(workstation: Workstation) -> None:
    """They move from `_unfiled` to an experiment of their own, without the box; the run goes there if it appears."""
    box = workstation.add_box()
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.evaluate(2)
    await workstation.once()
    assert directories(workstation) == ["_unfiled"]
    waiting = asking(workstation, "experiments")
    assert "2 files of 1 eval wait in _unfiled" in waiting.out
    before = {content for path, content in workstation.filed().items() if not path.endswith("manifest.json")}
    done = asking(workstation, "name", RUN.name, "ablation", "--json")
    assert done.code == ExitCode.OK, done.err
    made = str(done.document["outcome"]).removeprefix("filed in ")
    assert made.startswith("ablation_2025-08-20_qwen2_5_1_5b_")
    filed = {path: content for path, content in workstation.filed().items() if path.startswith(f"{made}/eval_results/")}
    assert set(filed.values()) == before
    workstation.audit()
    (again,) = (await workstation.once()).values()
    assert again.files == 0
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(4)
    await workstation.once()
    assert [each for each in directories(workstation) if each != "_unfiled"] == [made]
    assert (workstation.data / made / "training_run" / "config.yaml").exists()
    workstation.audit()


async def test_filing_by_hand_goes_on(workstation: Workstation) -> None:
    """What was not moved when the first try ended goes to the same experiment at the second."""
    box = workstation.add_box()
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.evaluate(2)
    await workstation.once()
    outcome = asking(workstation, "name", RUN.name, "ablation", "--json").document["outcome"]
    made = str(outcome).removeprefix("filed in ")
    evals.evaluate(4)
    shutil.rmtree(box.root / "training_runs", ignore_errors=True)
    await workstation.once()
    assert sum("/step_4_" in path for path in workstation.filed()) == 2
    assert all(path.startswith((made, "_unfiled/manifest")) for path in workstation.filed())
    workstation.audit()


async def test_running_daemon_names_at_once_or_at_the_end(workstation: Workstation) -> None:
    """A finished run is renamed while the command waits; one that grows when it has finished, and nothing is lost."""
    writer = RunWriter(workstation.add_box().root, RUN)
    writer.start()
    writer.log_until(4)
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        done = await anyio.to_thread.run_sync(asking, workstation, "name", RUN.name, "ablation")
        assert done.code == ExitCode.OK, done.err
        assert "when the run has finished" in done.out
        assert directories(workstation) == [FIRST]
        writer.log_until(8)
        writer.finish()
        await until(lambda: events(event_log, "experiment.renamed"))
        assert directories(workstation) == [GIVEN]
        done = await anyio.to_thread.run_sync(asking, workstation, "name", RUN.name, "better", "--json")
        assert done.document["outcome"] == f"{GIVEN.replace('ablation', 'better')} now"
    workstation.audit()


async def test_list_of_experiments(workstation: Workstation) -> None:
    """The newest run first; an eval counts once, whatever its batch repeats; one without a run is not finished."""
    box = workstation.add_box()
    newer = RunSpec(timestamp="2025-08-21_00-00-00", total_steps=8)
    for run in (RUN, newer):
        writer = RunWriter(box.root, run)
        writer.start()
        writer.log_until(2)
    batch = BatchEvalWriter(box.root, EvalSpec(RUN, questions=5))
    batch.start((2, 4))
    for step in (2, 4):
        batch.evaluate(step)
    batch.finish()
    alone = RunSpec(timestamp="2025-08-19_00-00-00", total_steps=8)
    evals_of_run(box.root, EvalSpec(alone, questions=5)).evaluate(2)
    await workstation.once()
    assert asking(workstation, "name", alone.name, "alone").code == ExitCode.OK
    listed = asking(workstation, "experiments", "--json").document["experiments"]
    assert [(each["runs"], each["evals"]) for each in listed] == [([newer.name], 0), ([RUN.name], 2), ([alone.name], 1)]
    assert [(each["state"], each["finished"]) for each in listed] == [("running", False)] * 2 + [(None, False)]


async def test_name_whose_files_can_not_be_filed_ends_nothing(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where a file's place can't be made it stays where it waits, the request is settled, and the daemon goes on."""
    box = workstation.add_box()
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.evaluate(2)
    await workstation.once()
    waiting = {path for path in workstation.filed() if path.startswith("_unfiled/")}
    longest = max(len(path) for path in waiting) + len("eval_results/")
    monkeypatch.setattr("harvestd.convention.paths.MAX_PATH_BYTES", longest)
    async with workstation.running() as event_log:
        done = await anyio.to_thread.run_sync(asking, workstation, "name", RUN.name, "ablation" * 8, "--json")
        assert done.code == ExitCode.OK, done.err
        await until(lambda: events(event_log, "file.conflict"))
        assert events(event_log, "request.settled")
    assert waiting <= set(workstation.filed())
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "host.connected"))


async def test_evals_of_no_named_model_make_no_name_with_a_hole(workstation: Workstation) -> None:
    """Where the directory's word for the model is none, the experiment's part says unknown."""
    evals = evals_of_run(workstation.add_box().root, EvalSpec(RUN, questions=5))
    evals.evaluate(2)
    (tuned,) = evals.directory.glob("*_finetuned")
    tuned.rename(tuned.with_name("checkpoint_gsm8k_finetuned"))
    await workstation.once()
    assert asking(workstation, "name", RUN.name, "ablation").code == ExitCode.OK
    assert "ablation_2025-08-20_unknown_unknown_unknownsteps" in directories(workstation)
