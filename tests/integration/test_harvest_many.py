"""Many files, much of them, and several boxes at one storage: bounded work, bounded memory, one copy."""

import tracemalloc
from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import anyio
import anyio.to_thread
import pytest

from harvestd.catalogue.engine import Database
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.harvest.context import Context
from harvestd.inventory.host import Host
from support.house import Moved, Workstation
from support.relay import relayed
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
LOG = ("logs", "train_log.jsonl")
MIB = 1024 * 1024


async def test_two_thousand_leaves_are_published_in_batches(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two thousand small leaves all arrive, in a number of commits and thread hops that goes with their batches."""
    box = workstation.add_box()
    RunWriter(box.root, RUN).start()
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=1))
    evals.write_config()
    for step in range(2000):
        leaf = evals.leaf(step)
        leaf.mkdir(parents=True)
        (leaf / "metrics.csv").write_bytes(b"q_idx,pass@1\n0,%d\n" % step)
        (leaf / "run_meta.json").write_bytes(b'{"step": %d}' % step)
    commits, hops = count(), count()
    commit = Database._commit
    run_sync = anyio.to_thread.run_sync

    def counted(self: Database, batch: Any) -> None:  # noqa: ANN401  (passed on as it came)
        next(commits)
        commit(self, batch)

    async def hopped(*args: Any, **options: Any) -> object:  # noqa: ANN401  (as above)
        next(hops)
        return await run_sync(*args, **options)

    monkeypatch.setattr(Database, "_commit", counted)
    monkeypatch.setattr(anyio.to_thread, "run_sync", hopped)
    (result,) = (await workstation.once()).values()
    assert result.files == 4003
    assert not result.failed
    assert len(workstation.filed()) == 4003
    assert next(commits) < 50
    assert next(hops) < 150
    workstation.audit()


async def test_memory_is_bounded_whatever_comes(workstation: Workstation) -> None:
    """Far more bytes of small files than the memory budget holds pass through in less than that budget."""
    box = workstation.add_box()
    RunWriter(box.root, RUN).start()
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=1))
    evals.write_config()
    for step in range(40):
        evals.begin(step)
        (evals.leaf(step) / "metrics.csv").write_bytes(b"x" * 4 * MIB)
        evals.seal(step)
    tracemalloc.start()
    try:
        (result,) = (await workstation.once(limits={"memory": "32MiB"})).values()
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert result.bytes > 160 * MIB
    assert peak < 64 * MIB
    workstation.audit()


async def test_two_boxes_with_one_file_system_give_one_run(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run on storage that two boxes show comes once; when the box that brought it dies the other goes on with it."""
    monkeypatch.setattr(Context, "storage_of", _one_storage)
    root = workstation.data.with_name("shared")
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(3)
    directory = writer.begin_checkpoint("final")
    (directory / "optimizer.pt").write_bytes(b"x" * 12 * MIB)
    writer.seal_checkpoint("final")
    for name in ("gpu-a", "gpu-b"):
        workstation.add_box(name, root=root)
    async with workstation.running() as event_log:
        await until(workstation.stands(RUN.name, "training_state", "step_final", "training_info.json"))
        await until(workstation.has(writer.train_log, RUN.name, *LOG))
        await until(lambda: len(events(event_log, "host.connected")) == 2)
        (finder,) = {str(one["host"]) for one in events(event_log, "run.discovered")}
        assert {str(one["host"]) for one in events(event_log, "file.downloaded")} == {finder}
        await anyio.to_thread.run_sync(workstation.boxes[finder].server.kill)
        writer.log_step(4)
        await until(workstation.has(writer.train_log, RUN.name, *LOG))
        assert not events(event_log, "file.conflict")
    assert len(workstation.catalogue("SELECT * FROM experiments")) == 1
    assert len(workstation.catalogue("SELECT * FROM runs")) == 1
    workstation.audit()


def _one_storage(_context: Context, _host: Host) -> str:
    return "cloud:the-file-system"


async def test_two_boxes_with_one_file_system_in_a_pass(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In a single pass over both boxes the bytes come once, too."""
    monkeypatch.setattr(Context, "storage_of", _one_storage)
    root = workstation.data.with_name("shared")
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(3)
    writer.finish()
    for name in ("gpu-a", "gpu-b"):
        workstation.add_box(name, root=root)
    moved = Moved()
    results = await workstation.once(moved)
    assert sorted(result.files for result in results.values()) == [0, 9]
    assert len(moved.bytes) == 1
    assert len(workstation.catalogue("SELECT * FROM experiments")) == 1
    workstation.audit()


async def test_slow_box_takes_nothing_from_the_others(workstation: Workstation) -> None:
    """A box on a line of a few KiB a second, with much to bring, leaves the others' metrics as fast as ever."""
    slow, fast = workstation.add_box("gpu-a"), workstation.add_box("gpu-b")
    writers: Sequence[RunWriter] = [
        RunWriter(box.root, RunSpec(timestamp=f"2025-08-2{number}_03-31-43")) for number, box in enumerate((slow, fast))
    ]
    for writer in writers:
        writer.start()
        writer.log_until(2)
    evals = evals_of_run(slow.root, EvalSpec(writers[0].run, questions=5))
    evals.write_config()
    for step in range(40):
        evals.begin(step)
        (evals.leaf(step) / "metrics.csv").write_bytes(b"x" * MIB)
        evals.seal(step)
    async with relayed(slow.port) as relay:
        workstation.reach("gpu-a", relay.port)
        async with workstation.running(limits={"memory": "32MiB"}) as event_log:
            await until(lambda: events(event_log, "host.connected", host="gpu-a"))
            relay.rate = 16 * 1024
            arrived: Callable[[], bool] = workstation.has(writers[1].train_log, writers[1].run.name, *LOG)
            await until(arrived, seconds=5)
            evals = evals_of_run(fast.root, EvalSpec(writers[1].run, questions=5))
            evals.write_config()
            evals.evaluate(2)
            leaf = f"*/eval_results/{writers[1].run.name}*/*/*/*/run_meta.json"
            await until(lambda: list(workstation.data.glob(leaf)), seconds=5)
            assert not list(workstation.data.glob(f"*/eval_results/{writers[0].run.name}*/*/*/*/run_meta.json"))
    workstation.audit()
