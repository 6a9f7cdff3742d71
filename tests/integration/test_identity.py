"""Which run is which: equal ones on two boxes stay two, and one that two boxes show stays one."""

import anyio
import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from support.house import Workstation
from support.shared_trees import late_view
from support.waiting import events, holds, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
LOG = ("logs", "train_log.jsonl")


async def test_equal_runs_of_one_second_stay_two(workstation: Workstation) -> None:
    """Two boxes whose runs have one name and one config, but logs of their own, are two experiments, whole both."""
    writers = {name: RunWriter(workstation.add_box(name).root, RUN) for name in ("gpu-a", "gpu-b")}
    for number, writer in enumerate(writers.values()):
        writer.start()
        writer.log_until(2 + number)
        writer.train_log.write_text(writer.train_log.read_text().replace('"step": 1,', f'"step": 1, "seed": {number},'))
    configs = {writer.directory.joinpath("config.yaml").read_bytes() for writer in writers.values()}
    assert len(configs) == 1
    await workstation.once()
    rows = workstation.catalogue(
        "SELECT runs.host, directory FROM runs JOIN experiments ON experiments.id = experiment"
    )
    directories = {str(host): str(directory) for host, directory in rows}
    assert set(directories) == set(writers)
    assert len(set(directories.values())) == 2
    for name, writer in writers.items():
        here = workstation.data / directories[name] / "training_run"
        assert here.joinpath(*LOG).read_bytes() == writer.train_log.read_bytes()
    await workstation.once()
    assert len(workstation.catalogue("SELECT * FROM experiments")) == 2
    workstation.audit()


async def test_a_run_that_two_boxes_show_stays_one(workstation: Workstation) -> None:
    """Nobody says that they share a file system: it is seen by the run, which comes once and goes on from the second.

    The second box sees late what the first one writes. Until there is a line that can be compared, it waits.
    """
    root = workstation.data.with_name("shared")
    root.mkdir()
    writer = RunWriter(root, RUN)
    writer.start()
    first = workstation.add_box("gpu-a", root=root).server
    second = workstation.add_box("gpu-b", root=root, within=late_view(root)).server
    mounts = await anyio.Path(f"/proc/{second.pid}/mounts").read_text()
    assert f" {root} fuse" in mounts
    await anyio.to_thread.run_sync(second.stop)
    async with workstation.running() as said:
        await until(lambda: events(said, "run.discovered", host="gpu-a"))
        await anyio.to_thread.run_sync(second.start)
        waits = "SELECT * FROM hosts WHERE name = 'gpu-b' AND state = 'connected' AND pending_bytes > 0"
        await until(lambda: workstation.catalogue(waits))
        assert not events(said, "host.storage_recognized")
        writer.log_until(3)
        await until(lambda: events(said, "host.storage_recognized", host="gpu-b", other="gpu-a"))
        await until(workstation.has(writer.train_log, RUN.name, *LOG))
        assert not events(said, "file.downloaded", host="gpu-b")
        await anyio.to_thread.run_sync(first.kill)
        writer.log_step(4)
        evals = evals_of_run(root, EvalSpec(RUN, questions=3))
        evals.write_config()
        evals.evaluate(2)
        await until(workstation.has(writer.train_log, RUN.name, *LOG))
        metrics = evals.leaf(2) / "metrics.csv"
        here = workstation.training(RUN.name).with_name("eval_results") / metrics.relative_to(root / "eval_runs")
        await until(holds(here, metrics.read_bytes()))
        assert events(said, "file.downloaded", host="gpu-b")
        assert not events(said, "file.conflict")
    assert len(workstation.catalogue("SELECT * FROM experiments")) == 1
    assert len(workstation.catalogue("SELECT * FROM runs")) == 1
    workstation.audit()
