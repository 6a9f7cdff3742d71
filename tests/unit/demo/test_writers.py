"""The made-up software writes its files where and in the order in which the real one does."""

import hashlib
import json
from pathlib import Path

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import (
    BatchEvalWriter,
    RunWriter,
    base_evals,
    evals_of_run,
    hub_evals,
    write_convention_example,
    write_husk,
    write_notebook_leftovers,
)

RUN = RunSpec()
SMALL = EvalSpec(RUN, questions=3)
CHECKPOINT = {
    "model/README.md",
    "model/adapter_config.json",
    "model/adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "training_info.json",
}


def files(directory: Path) -> set[str]:
    """Return the regular files below `directory`, relative to it; links are not followed."""
    return {
        str(path.relative_to(directory)) for path in directory.rglob("*") if path.is_file() and not path.is_symlink()
    }


def contents(directory: Path) -> dict[str, str]:
    """Return the hash of each file below `directory`."""
    return {name: hashlib.sha256((directory / name).read_bytes()).hexdigest() for name in files(directory)}


def test_run_grows_by_whole_lines_and_records(tmp_path: Path) -> None:
    """Each logged step leaves what was there as a prefix and adds to the log and to TensorBoard."""
    writer = RunWriter(tmp_path, RUN)
    writer.start()
    assert files(writer.directory) == {"config.yaml", f"tensorboard/{RUN.events_name}"}
    log, events = b"", writer.events.read_bytes()
    for step in range(1, 6):
        writer.log_step(step)
        new_log, new_events = writer.train_log.read_bytes(), writer.events.read_bytes()
        assert new_log.startswith(log)
        assert new_events.startswith(events)
        assert len(new_log) > len(log)
        assert len(new_events) > len(events)
        log, events = new_log, new_events
    writer.log_until(8)
    assert [json.loads(line)["step"] for line in writer.train_log.read_bytes().splitlines()] == list(range(1, 9))


def test_checkpoint_is_sealed_last_and_linked_relatively(tmp_path: Path) -> None:
    """Until it is sealed a checkpoint has no training_info.json and step_latest does not point at it."""
    writer = RunWriter(tmp_path, RUN)
    writer.start()
    writer.checkpoint(10)
    latest = writer.directory / "training_state" / "step_latest"
    directory = writer.begin_checkpoint(20)
    assert files(directory) == CHECKPOINT - {"training_info.json"}
    assert str(latest.readlink()) == "step_10"
    writer.seal_checkpoint(20)
    assert files(directory) == CHECKPOINT
    assert str(latest.readlink()) == "step_20"


def test_finish_writes_the_last_step_as_final(tmp_path: Path) -> None:
    """step_final carries the last logged step, and a resumed run that finishes again carries its later one."""
    writer = RunWriter(tmp_path, RUN)
    writer.start()
    info = writer.directory / "training_state" / "step_final" / "training_info.json"
    for last in (12, 15):
        writer.log_until(last)
        writer.finish()
        assert json.loads(info.read_bytes())["step"] == last
        assert str((info.parent.parent / "step_latest").readlink()) == "step_final"
        writer.resume()
    assert (writer.directory / "resume_config.yaml").exists()


def test_layouts_lie_where_the_convention_says(tmp_path: Path) -> None:
    """The layouts A, B and C differ only in what stands above the step."""
    leaf = "step_{}_gsm8k_r1_template/temp0.7_p1.0_r8"
    named = "qwen2_5_15_gsm8k_finetuned"
    run_evals = "run_2025-08-20_03-31-43_gsm8k_r1_template"
    root = tmp_path / "eval_runs"
    assert evals_of_run(tmp_path, SMALL).leaf(10) == root / run_evals / named / leaf.format(10)
    assert base_evals(tmp_path, SMALL).leaf("base_full") == root / named / leaf.format("base_full")
    assert hub_evals(tmp_path, SMALL).leaf(20) == root / "Qwen" / "Qwen2.5-1.5B_gsm8k_finetuned" / leaf.format(20)


def test_leaf_is_sealed_last_and_rewritten_in_place(tmp_path: Path) -> None:
    """Records and metrics come before run_meta.json; a re-evaluation rewrites the same files under the old marker."""
    writer = evals_of_run(tmp_path, SMALL)
    writer.write_config()
    leaf = writer.begin(10)
    assert files(leaf) == {"records.jsonl.gz", "metrics.csv"}
    writer.seal(10)
    assert files(leaf) == {"records.jsonl.gz", "metrics.csv", "run_meta.json"}
    before = contents(leaf)
    again = evals_of_run(tmp_path, EvalSpec(RUN, questions=4))
    assert again.begin(10) == leaf
    after = contents(leaf)
    assert after["metrics.csv"] != before["metrics.csv"]
    assert after["run_meta.json"] == before["run_meta.json"]
    assert (writer.directory / "eval_config.yaml").exists()


def test_base_eval_does_not_name_a_run(tmp_path: Path) -> None:
    """Nothing in a base eval's metadata tells which run it belongs to: there is none."""
    writer = base_evals(tmp_path, SMALL)
    writer.evaluate("base_full")
    assert "run_" not in (writer.leaf("base_full") / "run_meta.json").read_text()


def test_batch_eval_has_summaries_and_no_run_meta(tmp_path: Path) -> None:
    """Layout D lies below results/, step by step, with consolidated files at the end."""
    writer = BatchEvalWriter(tmp_path, SMALL)
    writer.start((10, 20))
    assert files(writer.directory) == {"config.yaml", "metadata.json", "logs/eval.log"}
    for step in (10, 20):
        writer.evaluate(step)
    step_files = {"records.jsonl.gz", "metrics.csv", "predictions.jsonl", "summary.json"}
    assert files(writer.directory / "results" / "step_20") == step_files
    writer.finish()
    assert {"consolidated_metrics.csv", "consolidated_summary.json"} < files(writer.directory / "results")


def test_husk_is_a_run_directory_without_config(tmp_path: Path) -> None:
    """A husk has the directories of a run and no file."""
    husk = write_husk(tmp_path, "2025-08-20_03-31-45")
    assert husk == tmp_path / "training_runs" / "run_2025-08-20_03-31-45"
    assert husk.is_dir()
    assert files(husk) == set()


def test_notebook_leftovers_are_a_copy(tmp_path: Path) -> None:
    """Jupyter's leftovers hold an old copy of the file under another name."""
    (tmp_path / "metrics.csv").write_text("q_idx\n")
    write_notebook_leftovers(tmp_path / "metrics.csv")
    assert (tmp_path / ".ipynb_checkpoints" / "metrics-checkpoint.csv").read_text() == "q_idx\n"


def test_convention_example_is_whole(tmp_path: Path) -> None:
    """The example has everything that the convention's own text shows, and is the same each time."""
    first, second = tmp_path / "first", tmp_path / "second"
    write_convention_example(first)
    write_convention_example(second)
    assert contents(first) == contents(second)
    run = first / "training_runs" / "run_2025-08-20_03-31-43"
    for step in (10, 20, 30, 40, 50, 60, "final"):
        assert files(run / "training_state" / f"step_{step}") == CHECKPOINT
    assert str((run / "training_state" / "step_latest").readlink()) == "step_final"
    assert len((run / "logs" / "train_log.jsonl").read_bytes().splitlines()) == 64
    leaves = {str(path.parent.relative_to(first / "eval_runs")) for path in first.rglob("run_meta.json")}
    place = "run_2025-08-20_03-31-43_gsm8k_r1_template/qwen2_5_15_gsm8k_finetuned"
    assert leaves == {
        "qwen2_5_15_gsm8k_finetuned/step_base_full_gsm8k_r1_template/temp0.7_p1.0_r8",
        *(f"{place}/step_{step}_gsm8k_r1_template/temp0.7_p1.0_r8" for step in range(10, 61, 10)),
    }
    unwanted = {path.relative_to(first).parts[-1] for path in first.rglob(".ipynb_checkpoints/*")}
    assert unwanted == {"config-checkpoint.yaml", "metrics-checkpoint.csv"}
    assert (run / "logs" / "rollouts.jsonl").stat().st_size > 0
