"""A data root on a small disk that really runs full: told once, nothing torn, no temporary left, and it goes on."""

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest

from harvestd.catalogue import state_dir
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.errors import DiskFull, HarvestError
from harvestd.store import errors as store_errors
from harvestd.store.staging import Staged
from support.faults import fired
from support.house import Workstation
from support.relay import relayed
from support.small_disks import fill, free_on, small_disk
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
MIB = 1024 * 1024
MARKER = ("training_state", "step_final", "training_info.json")


@pytest.fixture
def disk(workstation: Workstation) -> Iterator[Path]:
    """Put the data root on a disk of 32 MiB, and the catalogue elsewhere: without it nothing goes on."""
    workstation.state = workstation.data.with_name("state")
    with small_disk(workstation.data, 32 * MIB) as path:
        yield path


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[int | None]:
    """Return the errnos with which the kernel refused the store something, as they come."""
    seen: list[int | None] = []
    meaning = store_errors.failure

    def noted(error: OSError, doing: str) -> HarvestError:
        seen.append(error.errno)
        return meaning(error, doing)

    monkeypatch.setattr(store_errors, "failure", noted)
    monkeypatch.setattr("harvestd.harvest.budgets.FIRST_PAUSE", 0.5)
    return seen


def overtaken(monkeypatch: pytest.MonkeyPatch, ballast: Path, size: int) -> None:
    """Let another program take all the room, once, when a temporary of more than `size` bytes is being written."""
    write, put = Staged.write, Staged.put
    taken: list[bool] = []

    def overtake(end: int) -> None:
        if end > size and not taken:
            taken.append(True)
            fill(ballast)

    def written(self: Staged, data: bytes | bytearray | memoryview) -> None:
        overtake(self.size + len(data))
        write(self, data)

    def written_at(self: Staged, data: bytes | bytearray | memoryview, start: int) -> None:
        # Several connections are used where the host seems far away, as one on a busy machine does.
        overtake(start + len(data))
        put(self, data, start)

    monkeypatch.setattr(Staged, "write", written)
    monkeypatch.setattr(Staged, "put", written_at)


def write_checkpoint(root: Path, size: int) -> RunWriter:
    """Write a run with a sealed checkpoint of about `size` bytes."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(2)
    directory = writer.begin_checkpoint("final")
    (directory / "optimizer.pt").write_bytes(b"x" * size)
    writer.seal_checkpoint("final")
    return writer


def staging(workstation: Workstation) -> list[Path]:
    """Return what lies in staging."""
    return list((workstation.data / ".harvestd" / "staging").iterdir())


async def test_no_space_in_a_large_file(
    workstation: Workstation, disk: Path, told: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses a write in the middle of a checkpoint: its temporary goes, and with room it comes whole."""
    box = workstation.add_box()
    writer = write_checkpoint(box.root, 12 * MIB)
    overtaken(monkeypatch, disk / "ballast", 2 * MIB)
    async with workstation.running(limits={"free_space": "0B"}) as event_log:
        await until(lambda: events(event_log, "disk.low"))
        assert errno.ENOSPC in told
        fired(23)
        await until(lambda: not staging(workstation))
        assert not workstation.stands(RUN.name, *MARKER)()
        (disk / "ballast").unlink()
        await until(workstation.stands(RUN.name, *MARKER))
        await until(workstation.follows(writer))
        await until(lambda: events(event_log, "disk.recovered"))
        assert len(events(event_log, "disk.low")) == 1
    assert staging(workstation) == []
    workstation.audit()


async def test_no_space_in_small_files(
    workstation: Workstation, disk: Path, told: list[int | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel refuses a write in the middle of a batch: none of it stays half, and with room all of it comes."""
    box = workstation.add_box()
    write_checkpoint(box.root, 16)
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    for step in range(6):
        evals.begin(step)
        (evals.leaf(step) / "metrics.csv").write_bytes(b"x" * 2 * MIB)
        evals.seal(step)
    overtaken(monkeypatch, disk / "ballast", MIB)
    async with workstation.running(limits={"free_space": "0B"}) as event_log:
        await until(lambda: events(event_log, "disk.low"))
        assert errno.ENOSPC in told
        fired(23)
        assert staging(workstation) == []
        (disk / "ballast").unlink()
        await until(lambda: len(list(workstation.data.glob("*/eval_results/*/*/*/*/run_meta.json"))) == 6)
        await until(lambda: events(event_log, "disk.recovered"))
        assert len(events(event_log, "disk.low")) == 1
    workstation.audit()


async def test_floor_is_kept_while_a_large_file_is_written(
    workstation: Workstation, disk: Path, told: list[int | None]
) -> None:
    """Another program takes the room that a transfer had: it stops at the floor, before the disk is full."""
    box = workstation.add_box()
    write_checkpoint(box.root, 12 * MIB)
    async with relayed(box.port) as relay:
        relay.rate = MIB // 4
        workstation.reach("gpu-a", relay.port)
        async with workstation.running(limits={"free_space": "8MiB", "bulk_connections_per_host": 1}) as event_log:
            await until(lambda: any(path.stat().st_size > MIB // 4 for path in staging(workstation)))
            fill(disk / "ballast", leaving=4 * MIB)
            await until(lambda: events(event_log, "disk.low"))
            assert free_on(disk) > 0
            assert errno.ENOSPC not in told
            fired(23)
            await until(lambda: not staging(workstation))
            (disk / "ballast").unlink()
            relay.rate = None
            await until(workstation.stands(RUN.name, *MARKER))
            assert len(events(event_log, "disk.low")) == 1
    workstation.audit()


async def test_no_space_for_the_catalogue_either(workstation: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Data root and catalogue on one disk that runs full: the daemon stays, says so once, and goes on with room."""
    refused: list[HarvestError] = []

    def noted(error: BaseException | None) -> HarvestError:
        refused.append(state_dir.unusable(error))
        return refused[-1]

    monkeypatch.setattr("harvestd.catalogue.engine.unusable", noted)
    monkeypatch.setattr("harvestd.harvest.budgets.FIRST_PAUSE", 0.2)
    box = workstation.add_box()
    writer = write_checkpoint(box.root, 16)
    with small_disk(workstation.data, 16 * MIB) as disk:
        async with workstation.running(limits={"free_space": "0B"}) as event_log:
            await until(workstation.follows(writer))
            fill(disk / "ballast")
            for number in range(200):
                RunWriter(box.root, RunSpec(timestamp=f"2025-08-21_03-{number // 60:02}-{number % 60:02}")).start()
            await until(lambda: any(isinstance(error, DiskFull) for error in refused))
            fired(24)
            await until(lambda: events(event_log, "disk.low"))
            (disk / "ballast").unlink()
            last = RunSpec(timestamp="2025-08-21_03-03-19").name
            await until(workstation.stands(last, "config.yaml"))
            assert len(events(event_log, "disk.low")) == 1
        workstation.audit()
