"""The demo's story: the events on the three hosts of an embedded fleet within about fifteen seconds.

gpu-a trains: its run is in progress, writes step_40 and then step_final; evals of its checkpoints appear one after
another beside a base eval. gpu-b has a finished run, the empty run directory of its multi-GPU start, and a batch eval
in progress. gpu-c, which offers SFTP alone, has a finished run with various files that must not be fetched.

The story writes only below the hosts' roots. Its end state is the same whatever the pace: contents are made from the
specs below, never from a clock.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import anyio

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec, Step
from harvestd.demo.fleet import Box, Fleet
from harvestd.demo.writers import (
    BatchEvalWriter,
    RunWriter,
    base_evals,
    evals_of_run,
    hub_evals,
    write_husk,
    write_notebook_leftovers,
)

TRAINING = RunSpec(total_steps=48)
"""gpu-a's run, with the gradient-noise probe on."""
TRAINING_EVAL = EvalSpec(TRAINING)
TRAINING_EVAL_STEPS = (10, 20, 30, 40)
BATCH = RunSpec(
    timestamp="2025-08-21_09-12-05",
    backbone="Qwen/Qwen2.5-0.5B",
    eval_backbone="qwen2_5_05",
    total_steps=30,
    gns_probe=False,
    world_size=8,
    hostname="192-222-52-196",
)
"""gpu-b's run, on eight GPUs."""
BATCH_HUSK = "2025-08-21_09-12-07"
BATCH_EVAL = EvalSpec(BATCH, dataset="gsm8k")
BATCH_EVAL_STEPS: tuple[Step, ...] = (10, 20, 30)
HUB_EVAL = EvalSpec(BATCH, questions=10, subset_frac=0.25)
HUB_EVAL_STEP = 20
QUIET = RunSpec(
    timestamp="2025-08-22_18-40-00",
    backbone="meta-llama/Meta-Llama-3-8B",
    eval_backbone="llama3_8b",
    dataset="mathmix",
    total_steps=20,
    gns_probe=False,
    hostname="192-222-52-197",
)
"""gpu-c's run."""
QUIET_UNSEALED_STEP = 15
"""Its checkpoint that was never completed: without training_info.json."""

_UNDER_WAY = 32
"""The step that gpu-a's run has reached when the story begins."""
_CHECKPOINT = 40
_STEP_SECONDS = 0.75
_EVAL_SECONDS = 3.0
_MARKER_SECONDS = 0.5
"""Between the files of a group and the marker that seals it."""


async def play(fleet: Fleet, pace: float = 1.0) -> None:
    """Run the story on the `fleet` (of three hosts or more, their trees empty); return at its end.

    At a `pace` of 1 it takes about fifteen seconds, at 0.1 a tenth of that, at 0 only the time of the writes.
    """
    await set_the_scene(fleet)
    async with anyio.create_task_group() as tasks:
        checkpoint = anyio.Event()
        tasks.start_soon(_train, fleet.box("gpu-a"), checkpoint, pace)
        tasks.start_soon(_evaluate, fleet.box("gpu-a"), checkpoint, pace)
        tasks.start_soon(_batch_evaluate, fleet.box("gpu-b"), pace)


async def set_the_scene(fleet: Fleet) -> None:
    """Write the initial files on the hosts."""
    for name, write in (("gpu-a", _begin_training), ("gpu-b", _write_batch_box), ("gpu-c", _write_quiet_box)):
        await anyio.to_thread.run_sync(write, fleet.box(name).root)


def _begin_training(root: Path) -> None:
    writer = RunWriter(root, TRAINING)
    writer.start()
    for step in range(TRAINING.save_every, _UNDER_WAY, TRAINING.save_every):
        writer.log_until(step)
        writer.checkpoint(step)
    writer.log_until(_UNDER_WAY)
    writer.rollouts(_UNDER_WAY)
    base_evals(root, TRAINING_EVAL).evaluate("base_full")
    evals_of_run(root, TRAINING_EVAL).write_config()


def _write_batch_box(root: Path) -> None:
    writer = RunWriter(root, BATCH)
    writer.start()
    write_husk(root, BATCH_HUSK)
    for step in range(BATCH.save_every, BATCH.total_steps + 1, BATCH.save_every):
        writer.log_until(step)
        writer.checkpoint(step)
    writer.finish()
    hub_evals(root, HUB_EVAL).evaluate(HUB_EVAL_STEP)


def _write_quiet_box(root: Path) -> None:
    writer = RunWriter(root, QUIET)
    writer.start()
    writer.log_until(QUIET.save_every)
    writer.rollouts(QUIET.save_every)
    writer.checkpoint(QUIET.save_every)
    writer.log_until(QUIET_UNSEALED_STEP)
    writer.begin_checkpoint(QUIET_UNSEALED_STEP)
    writer.log_until(QUIET.total_steps)
    writer.finish()
    write_notebook_leftovers(writer.directory / "config.yaml")
    (writer.directory / "notes.txt").write_text("lr 1e-6 looks better, ask Ada\n")


async def _train(box: Box, checkpoint: anyio.Event, pace: float) -> None:
    """Continue gpu-a's run to its end; set `checkpoint` when step_40 is sealed."""
    writer = RunWriter(box.root, TRAINING)
    for step in range(_UNDER_WAY + 1, TRAINING.total_steps + 1):
        await _happen(partial(writer.log_step, step), _STEP_SECONDS * pace)
        if step == _CHECKPOINT:
            await _happen(partial(writer.begin_checkpoint, step), _MARKER_SECONDS * pace)
            await _happen(partial(writer.seal_checkpoint, step), 0)
            checkpoint.set()
    await _happen(partial(writer.begin_checkpoint, "final"), _MARKER_SECONDS * pace)
    await _happen(partial(writer.seal_checkpoint, "final"), 0)


async def _evaluate(box: Box, checkpoint: anyio.Event, pace: float) -> None:
    """Evaluate gpu-a's checkpoints one after another; the last of them only once it exists."""
    writer = evals_of_run(box.root, TRAINING_EVAL)
    for step in TRAINING_EVAL_STEPS:
        if step == _CHECKPOINT:
            await checkpoint.wait()
        await _happen(partial(writer.begin, step), _MARKER_SECONDS * pace)
        await _happen(partial(writer.seal, step), (_EVAL_SECONDS - _MARKER_SECONDS) * pace)


async def _batch_evaluate(box: Box, pace: float) -> None:
    writer = BatchEvalWriter(box.root, BATCH_EVAL)
    await _happen(partial(writer.start, BATCH_EVAL_STEPS), _EVAL_SECONDS * pace)
    for step in BATCH_EVAL_STEPS:
        await _happen(partial(writer.evaluate, step), _EVAL_SECONDS * pace)
    await _happen(writer.finish, 0)


async def _happen(what: Callable[[], object], seconds_after: float) -> None:
    """Change a host's files, then wait."""
    await anyio.to_thread.run_sync(what)
    await anyio.sleep(seconds_after)
