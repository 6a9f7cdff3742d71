"""A disk that runs full at home: told once, nothing lost, nothing left lying, and it goes on when there is room."""

from itertools import count

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run, write_convention_example
from harvestd.errors import DiskFull
from harvestd.store.root import DataRoot
from harvestd.store.staging import Staged
from support.house import Moved, Workstation
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
MIB = 1024 * 1024


def free_space(monkeypatch: pytest.MonkeyPatch, free: list[int]) -> None:
    """Let the data root say that the last number in `free` is its free space."""
    monkeypatch.setattr(DataRoot, "free_bytes", lambda _: free[-1])


async def test_nothing_is_fetched_below_the_floor(workstation: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    """With less than the floor free a pass fetches nothing and says that the disk is full; the next one goes on."""
    box = workstation.add_box()
    write_convention_example(box.root)
    free = [MIB]
    free_space(monkeypatch, free)
    moved = Moved()
    (result,) = (await workstation.once(moved)).values()
    assert result.disk_full
    assert (result.files, moved.bytes, workstation.filed()) == (0, {}, {})
    free.append(MIB * 1024)
    (result,) = (await workstation.once()).values()
    assert not result.disk_full
    assert result.files == 24
    workstation.audit()


async def test_floor_is_told_once_and_recovery_once(workstation: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two boxes and a full disk: one event, nothing fetched; with room again one event, and everything comes."""
    writers = {}
    for number, name in enumerate(("gpu-a", "gpu-b")):
        run = RunSpec(timestamp=f"2025-08-2{number}_03-31-43")
        writers[name] = RunWriter(workstation.add_box(name).root, run)
        writers[name].start()
        writers[name].log_until(2)
    asked = count()
    free = [MIB * 1024]
    monkeypatch.setattr(DataRoot, "free_bytes", lambda _: (next(asked), free[-1])[1])
    async with workstation.running() as event_log:
        for writer in writers.values():
            await until(workstation.follows(writer))
        before = workstation.filed()
        free.append(MIB)
        for writer in writers.values():
            writer.log_step(3)
        await until(lambda: events(event_log, "disk.low"))
        turn = next(asked)
        await until(lambda: next(asked) > turn + 20)
        assert workstation.filed() == before
        free.append(MIB * 1024)
        for writer in writers.values():
            await until(workstation.follows(writer))
        assert len(events(event_log, "disk.low")) == 1
        assert len(events(event_log, "disk.recovered")) == 1
    workstation.audit()


async def test_group_that_does_not_fit_stops_no_other(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A checkpoint larger than the disk is refused before a byte, told once, and everything smaller arrives."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    directory = writer.begin_checkpoint("final")
    with (directory / "optimizer.pt").open("r+b") as file:
        file.truncate(10 * 1024 * 1024 * MIB)
    writer.seal_checkpoint("final")
    free_space(monkeypatch, [MIB * 1024])
    async with workstation.running() as event_log:
        for step in (3, 4, 5):
            writer.log_step(step)
            await until(workstation.follows(writer))
        assert len(events(event_log, "disk.low")) == 1
        assert not events(event_log, "disk.recovered")
    moved = Moved()
    (result,) = (await workstation.once(moved)).values()
    assert result.disk_full
    assert (moved.bytes, list((workstation.data / ".harvestd" / "staging").iterdir())) == ({}, [])
    assert not workstation.stands(RUN.name, "training_state")()
    workstation.audit()


async def test_full_disk_in_the_middle_of_a_pass(workstation: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC while batches are written: no crash, no temporary left, and everything comes once there is room."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    for step in range(12):
        evals.begin(step)
        (evals.leaf(step) / "metrics.csv").write_bytes(b"x" * 3 * MIB)
        evals.seal(step)
    full = [True]
    written = count(1)
    write = Staged.write

    def limited(self: Staged, data: bytes) -> None:
        if full[0] and len(data) > MIB and next(written) > 3:
            raise DiskFull("can't write a temporary: No space left on device")
        write(self, data)

    monkeypatch.setattr(Staged, "write", limited)
    monkeypatch.setattr("harvestd.harvest.budgets.FIRST_PAUSE", 0.5)
    (result,) = (await workstation.once()).values()
    assert result.disk_full
    assert next(written) > 4, "the disk was never full"
    assert list((workstation.data / ".harvestd" / "staging").iterdir()) == []
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "disk.low"))
        assert list((workstation.data / ".harvestd" / "staging").iterdir()) == []
        full[0] = False
        await until(lambda: len(list(workstation.data.glob("*/eval_results/*/*/*/*/run_meta.json"))) == 12)
        await until(lambda: events(event_log, "disk.recovered"))
    workstation.audit()


async def test_full_disk_in_a_large_transfer(workstation: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    """ENOSPC in the middle of a checkpoint: what was half here is removed, told, and it comes once there is room."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    directory = writer.begin_checkpoint("final")
    (directory / "optimizer.pt").write_bytes(b"x" * 12 * MIB)
    writer.seal_checkpoint("final")
    full = [True]
    write, put = Staged.write, Staged.put

    def check(end: int) -> None:
        if full[0] and end > 4 * MIB:
            raise DiskFull("can't write a temporary: No space left on device")

    def limited_write(self: Staged, data: bytes) -> None:
        check(self.size)
        write(self, data)

    def limited_put(self: Staged, data: bytes, start: int) -> None:
        check(start)
        put(self, data, start)

    # Segments are put at their places where several connections share a file.
    monkeypatch.setattr(Staged, "write", limited_write)
    monkeypatch.setattr(Staged, "put", limited_put)
    monkeypatch.setattr("harvestd.harvest.budgets.FIRST_PAUSE", 0.5)
    staging = workstation.data / ".harvestd" / "staging"
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "disk.low"))
        await until(lambda: not list(staging.iterdir()))
        assert not workstation.stands(RUN.name, "training_state")()
        full[0] = False
        await until(workstation.stands(RUN.name, "training_state", "step_final", "training_info.json"))
        await until(lambda: events(event_log, "checkpoint.completed"))
        assert len(events(event_log, "disk.low")) == 1
    workstation.audit()
