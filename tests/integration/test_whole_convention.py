"""The convention, whole: what real boxes write, in every layout, and the tree that stands at home in the end.

What must be there is written out by hand, file for file: the code's own idea of the convention has no say in it.
"""

from collections.abc import Iterator
from pathlib import Path

import anyio
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import BatchEvalWriter, RunWriter, base_evals, evals_of_run, hub_evals, write_husk
from support.data_root import tree
from support.house import Workstation
from support.waiting import DEADLINE, events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RESUMED = RunSpec(total_steps=8)
"""On gpu-a, whose tree gpu-b shows too: finishes, is resumed in place, and finishes again two steps later."""
OTHER = RunSpec(
    timestamp="2025-08-21_09-12-05",
    backbone="Qwen/Qwen2.5-0.5B",
    eval_backbone="qwen2_5_05",
    total_steps=6,
    gns_probe=False,
)
"""On gpu-c; it is evaluated on gpu-d."""
DEAD = RunSpec(
    timestamp="2025-08-22_18-40-00", backbone="meta-llama/Meta-Llama-3-8B", eval_backbone="llama3_8b", total_steps=64
)
"""On gpu-d; it dies after step_40."""

HOME = "gns_test_2025-08-20_qwen2_5_1_5b_h100_10steps"
OTHER_HOME = "trial_2025-08-21_qwen2_5_0_5b_h100_6steps"
DEAD_HOME = "gns_test_2025-08-22_llama3_8b_h100_64steps"
CHECKPOINT = (
    "model/README.md",
    "model/adapter_config.json",
    "model/adapter_model.safetensors",
    "optimizer.pt",
    "scheduler.pt",
    "training_info.json",
)
LEAF = ("metrics.csv", "run_meta.json")
SETTING = "temp0.7_p1.0_r8"
TUNED, TUNED_OTHER = "qwen2_5_15_gsm8k_finetuned", "qwen2_5_05_gsm8k_finetuned"


def written_first(workstation: Workstation) -> RunWriter:
    """Write what stands on four boxes when the daemon starts."""
    shared = workstation.add_box("gpu-a").root
    workstation.add_box("gpu-b", root=shared)
    writer = RunWriter(shared, RESUMED)
    writer.start()
    writer.log_until(4)
    writer.checkpoint(4)
    writer.rollouts(4)
    spec = EvalSpec(RESUMED, questions=5)
    evals_of_run(shared, spec).write_config()
    evals_of_run(shared, spec).evaluate(2)
    for variant in ("base", "base_full"):
        base_evals(shared, spec).evaluate(variant)
    third = workstation.add_box("gpu-c").root
    other = RunWriter(third, OTHER)
    other.start()
    other.log_until(6)
    other.checkpoint(6)
    other.finish()
    write_husk(third, "2025-08-21_09-12-07")
    fourth = workstation.add_box("gpu-d").root
    batch = BatchEvalWriter(fourth, EvalSpec(OTHER, dataset="gsm8k", questions=5))
    batch.start((2, 4))
    batch.evaluate(2)
    batch.evaluate(4)
    batch.finish()
    hub_evals(fourth, EvalSpec(OTHER, questions=5)).evaluate(4)
    dead = RunWriter(fourth, DEAD)
    dead.start()
    dead.log_until(20)
    dead.checkpoint(20)
    dead.log_until(40)
    dead.checkpoint(40)
    dead.log_until(43)
    return writer


def expected(workstation: Workstation) -> Iterator[tuple[str, Path]]:
    """Yield each file that must be at home, with the file on its box whose bytes it must have."""
    shared, third, fourth = (workstation.boxes[name].root for name in ("gpu-a", "gpu-c", "gpu-d"))
    yield from run(HOME, shared, RESUMED, "step_final")
    yield f"{HOME}/training_run/resume_config.yaml", shared / "training_runs" / RESUMED.name / "resume_config.yaml"
    here = shared / "eval_runs" / f"{RESUMED.name}_gsm8k_r1_template"
    yield f"{HOME}/eval_results/{here.name}/eval_config.yaml", here / "eval_config.yaml"
    for step in ("step_2", "step_final"):
        for name in LEAF:
            rest = f"{TUNED}/{step}_gsm8k_r1_template/{SETTING}/{name}"
            yield f"{HOME}/eval_results/{here.name}/{rest}", here / rest
    for variant in ("step_base_gsm8k_r1_template", "step_base_full_gsm8k_r1_template"):
        for name in LEAF:
            rest = f"{variant}/{SETTING}/{name}"
            yield f"{HOME}/base_eval/{rest}", shared / "eval_runs" / TUNED / rest
    yield from run(OTHER_HOME, third, OTHER, "step_final")
    batch = fourth / "eval_runs" / f"{OTHER.name}_gsm8k"
    leaves = [f"results/step_{step}/{name}" for step in (2, 4) for name in ("metrics.csv", "summary.json")]
    whole = ["results/consolidated_metrics.csv", "results/consolidated_summary.json", "config.yaml", "metadata.json"]
    for rest in (*leaves, *whole):
        yield f"{OTHER_HOME}/eval_results/{batch.name}/{rest}", batch / rest
    for name in LEAF:
        rest = f"eval_runs/Qwen/Qwen2.5-0.5B_gsm8k_finetuned/step_4_gsm8k_r1_template/{SETTING}/{name}"
        yield f"_unfiled/gpu-d/{rest}", fourth / rest
    yield from run(DEAD_HOME, fourth, DEAD, "step_40")


def run(home: str, root: Path, spec: RunSpec, checkpoint: str) -> Iterator[tuple[str, Path]]:
    """Yield the files of a training run with one checkpoint."""
    there = root / "training_runs" / spec.name
    sealed = [f"training_state/{checkpoint}/{name}" for name in CHECKPOINT]
    for rest in ("config.yaml", "logs/train_log.jsonl", f"tensorboard/{spec.events_name}", *sealed):
        yield f"{home}/training_run/{rest}", there / rest


LINKS = {
    f"{HOME}/training_run/training_state/step_latest": "-> step_final",
    f"{OTHER_HOME}/training_run/training_state/step_latest": "-> step_final",
    f"{DEAD_HOME}/training_run/training_state/step_latest": "-> step_40",
}
SCRIPTS = (
    "complete_pass_plot",
    "detailed_passk_analysis",
    "training_analysis",
    "entropy_probe_analysis",
    "drawing",
    "evals",
    "experiment",
    "lines",
    "panels",
    "eval_names",
    "log_rows",
)
OWN = {f"{home}/{name}" for home in (HOME, OTHER_HOME, DEAD_HOME) for name in ("manifest.json", "README.md")}
OWN |= {f"{home}/analysis/{name}.py" for home in (HOME, OTHER_HOME, DEAD_HOME) for name in SCRIPTS}
OWN |= {f"{home}/analysis/configured.json" for home in (HOME, OTHER_HOME, DEAD_HOME)}
OWN |= {"_unfiled/manifest.json", "index.md"}
"""What harvestd writes by itself; pictures are switched off."""


async def test_tree_at_home_is_the_one_that_was_promised(workstation: Workstation) -> None:
    """Four boxes, two of one tree, all layouts, a resume, a rename, a husk, a dead run: nothing more, nothing less.

    Another pass moves nothing, and none does after the catalogue was lost.
    """
    writer = written_first(workstation)

    def difference() -> list[str]:
        wanted = {path: there.read_bytes() for path, there in expected(workstation)} | LINKS
        here = {path: each for path, each in tree(workstation.data).items() if path not in OWN}
        return [path for path in sorted(wanted.keys() | here.keys()) if wanted.get(path) != here.get(path)]

    async with workstation.running(verdict={"idle_for": "2s"}) as event_log:
        await until(lambda: events(event_log, "run.discovered", run_id=RESUMED.name))
        writer.log_until(8)
        writer.finish()
        await until(lambda: events(event_log, "run.finished", run_id=RESUMED.name))
        writer.resume()
        writer.log_until(10)
        writer.finish()
        evals_of_run(workstation.boxes["gpu-a"].root, EvalSpec(RESUMED, questions=5)).evaluate("final")
        with anyio.move_on_after(DEADLINE):
            await until(lambda: not difference())
        assert difference() == []
        await until(lambda: tree(workstation.data).keys() >= OWN)
    workstation.audit()
    for lost in (False, True):
        if lost:
            for file in workstation.state.glob("catalogue.sqlite*"):
                file.unlink()
        results = await workstation.once(verdict={"idle_for": "2s"})
        assert sum(result.bytes for result in results.values()) == 0
        assert difference() == []
        workstation.audit()
