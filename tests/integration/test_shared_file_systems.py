"""Boxes that show one file system without anybody having said so, and boxes that only look as if they did."""

from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from support.house import Workstation
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=8)


def started(root: Path) -> RunWriter:
    """Write a run that goes on, and an eval of it."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(4)
    evals = evals_of_run(root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate(2)
    return writer


def experiments(workstation: Workstation) -> list[str]:
    """Return the experiments' directories."""
    return sorted(path.name for path in workstation.data.iterdir() if path.is_dir() and not path.name.startswith("."))


def sources(workstation: Workstation) -> set[object]:
    """Return the hosts from which the catalogue says that files came."""
    return {host for (host,) in workstation.catalogue("SELECT DISTINCT host FROM files")}


async def test_one_run_that_two_boxes_show_stays_one(workstation: Workstation) -> None:
    """It is brought home once, by the one that was seen first; the other one says why it has nothing to do."""
    box = workstation.add_box("gpu-a")
    started(box.root)
    await workstation.once()
    before = len(workstation.filed())
    workstation.add_box("gpu-b", root=box.root)
    results = await workstation.once()
    assert [result.files for result in results.values()] == [0, 0]
    assert len(experiments(workstation)) == 1
    assert len(workstation.filed()) == before
    assert sources(workstation) == {"gpu-a"}
    async with workstation.running():
        reason = ("the same run as on gpu-a, which brings it",)
        await until(lambda: reason in workstation.catalogue("SELECT reason FROM left_out WHERE host = 'gpu-b'"))
    assert len(workstation.filed()) == before
    workstation.audit()


@pytest.mark.parametrize("grows", [True, False])
async def test_run_goes_on_from_the_other_box(workstation: Workstation, *, grows: bool) -> None:
    """Where the first box dies in the middle, the other one carries on: nothing comes twice, nothing is missed."""
    box = workstation.add_box("gpu-a")
    writer = started(box.root)
    workstation.add_box("gpu-b", root=box.root)
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        await until(lambda: len(events(event_log, "run.discovered")) == 2)
        (home,) = experiments(workstation)
        inode = (workstation.data / home / "training_run" / "logs" / "train_log.jsonl").stat().st_ino
        workstation.boxes["gpu-a"].server.stop()
        await until(lambda: events(event_log, "host.lost"))
        if grows:
            writer.log_until(8)
        evals_of_run(box.root, EvalSpec(RUN, questions=5)).evaluate(4)
        writer.finish()
        await until(workstation.follows(writer))
        await until(lambda: events(event_log, "checkpoint.completed"))
        await until(lambda: len(list(workstation.data.glob("*/eval_results/*/*/*/*/run_meta.json"))) == 2)
    assert len(experiments(workstation)) == 1
    reported = [each for each in events(event_log, "file.downloaded") if str(each["path"]).endswith("train_log.jsonl")]
    assert sum(int(each["bytes"]) for each in reported) == writer.train_log.stat().st_size
    (home,) = experiments(workstation)
    assert (workstation.data / home / "training_run" / "logs" / "train_log.jsonl").stat().st_ino == inode
    assert not events(event_log, "file.conflict")
    workstation.audit()


async def test_equal_runs_of_two_boxes_stay_two(workstation: Workstation) -> None:
    """Two boxes that start equal runs in the same second have two runs: their logs tell them apart."""
    boxes = [workstation.add_box(name) for name in ("gpu-a", "gpu-b")]
    for number, box in enumerate(boxes):
        writer = RunWriter(box.root, RUN)
        writer.start()
        writer.train_log.write_text(f'{{"step": 1, "loss": {number}.5}}\n')
        writer.log_until(3)
    await workstation.once()
    await workstation.once()
    assert len(experiments(workstation)) == 2
    assert sources(workstation) == {"gpu-a", "gpu-b"}
    logs = {path.read_text().splitlines()[0] for path in workstation.data.glob("*/training_run/logs/train_log.jsonl")}
    assert len(logs) == 2
    workstation.audit()


async def test_without_a_line_the_later_one_waits(workstation: Workstation) -> None:
    """As long as no log tells whether it is one run, the second is not given an experiment; then it is."""
    boxes = [workstation.add_box(name) for name in ("gpu-a", "gpu-b")]
    writers = [RunWriter(box.root, RUN) for box in boxes]
    for writer in writers:
        writer.start()
        writer.train_log.write_bytes(b"")
    await workstation.once()
    results = await workstation.once()
    assert len(experiments(workstation)) == 1
    (waiting,) = [wait for result in results.values() for wait in result.waiting]
    assert "first line" in waiting.reason
    for number, writer in enumerate(writers):
        writer.train_log.write_text(f'{{"step": 1, "loss": {number}.5}}\n')
    await workstation.once()
    await workstation.once()
    assert len(experiments(workstation)) == 2
    workstation.audit()
