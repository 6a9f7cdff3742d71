"""One run that two boxes show through a network file system: a caching mount, since a bind mount shows all at once."""

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


async def test_a_run_goes_on_from_a_box_that_sees_it_late(workstation: Workstation) -> None:
    """What the second box shows at first is older than what is here: nothing begins anew, and in the end all is here.

    When the first box is back both show the run, and one of them brings it.
    """
    root = workstation.data.with_name("shared")
    root.mkdir()
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(2)
    first = workstation.add_box("gpu-a", root=root).server
    second = workstation.add_box("gpu-b", root=root, within=late_view(root)).server
    mounts = await anyio.Path(f"/proc/{second.pid}/mounts").read_text()
    assert f" {root} fuse" in mounts
    await anyio.to_thread.run_sync(second.stop)
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        await anyio.to_thread.run_sync(second.start)
        await until(lambda: events(event_log, "run.discovered", host="gpu-b"))
        writer.log_until(4)
        await until(workstation.follows(writer))
        assert not events(event_log, "file.downloaded", host="gpu-b")
        await anyio.to_thread.run_sync(first.kill)
        writer.log_step(5)
        evals = evals_of_run(root, EvalSpec(RUN, questions=3))
        evals.write_config()
        evals.evaluate(2)
        await until(workstation.follows(writer))
        metrics = evals.leaf(2) / "metrics.csv"
        here = workstation.training(RUN.name).with_name("eval_results") / metrics.relative_to(root / "eval_runs")
        await until(holds(here, metrics.read_bytes()))
        assert events(event_log, "file.downloaded", host="gpu-b")
        await anyio.to_thread.run_sync(first.start)
        await until(lambda: len(events(event_log, "host.connected", host="gpu-a")) == 2)
        for step in (6, 7):
            writer.log_step(step)
            await until(workstation.follows(writer))
        evals_of_run(root, EvalSpec(RUN, questions=4)).evaluate(2)
        await until(holds(here, metrics.read_bytes()))
        assert not events(event_log, "file.conflict")
    for path in (writer.train_log, writer.events):
        reported = [each for each in events(event_log, "file.downloaded") if str(each["path"]).endswith(path.name)]
        assert sum(int(each["bytes"]) for each in reported) == path.stat().st_size, "something came twice"
    assert len(workstation.catalogue("SELECT * FROM experiments")) == 1
    workstation.audit()
