"""What a transfer would go on from was altered while nobody looked: never published, never appended to."""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.faults import fired
from support.house import Workstation
from support.relay import Relay, relayed
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

MIB = 1024 * 1024
RUN = RunSpec()
SIZE = 24 * MIB
OPTIMIZER = Path("training_state", "step_final", "optimizer.pt")


def write_checkpoint(root: Path) -> RunWriter:
    """Write a finished run with one large file in its final checkpoint."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(2)
    directory = writer.begin_checkpoint("final")
    (directory / OPTIMIZER.name).write_bytes(os.urandom(SIZE))
    writer.seal_checkpoint("final")
    return writer


def flip(path: Path, at: int) -> None:
    """Change one bit of a file in place."""
    with path.open("r+b") as file:
        file.seek(at)
        (byte,) = file.read(1)
        file.seek(at)
        file.write(bytes([byte ^ 1]))


@asynccontextmanager
async def killed_half_way(workstation: Workstation) -> AsyncIterator[tuple[RunWriter, Relay, Path]]:
    """Kill a daemon in the middle of a large file; gives the run, the way to its box, and what is staged of it."""
    box = workstation.add_box()
    writer = write_checkpoint(box.root)
    async with relayed(box.port) as relay:
        relay.rate = 4 * MIB
        workstation.reach("gpu-a", relay.port)
        workstation.settings()
        journalled = "SELECT name FROM transfers WHERE synced > 6000000"
        with workstation.program() as process:
            await until(lambda: workstation.experiment(RUN.name) and workstation.catalogue(journalled))
            process.send_signal(signal.SIGKILL)
            await anyio.to_thread.run_sync(process.wait)
        ((name,),) = workstation.catalogue(journalled)
        relay.rate, relay.received = None, 0
        yield writer, relay, workstation.data / ".harvestd" / "staging" / str(name)
    assert (workstation.training(RUN.name) / OPTIMIZER).read_bytes() == (writer.directory / OPTIMIZER).read_bytes()
    workstation.audit()


async def test_staged_part_of_a_large_file(workstation: Workstation) -> None:
    """A bit flips in what a killed daemon had staged: the hash finds it, and the file comes whole from the box."""
    async with killed_half_way(workstation) as (writer, relay, staged):
        flip(staged, 3 * MIB)
        assert not (writer.directory / OPTIMIZER).read_bytes().startswith(staged.read_bytes()[: 4 * MIB])
        fired(37)
        await workstation.once()
        assert relay.received > SIZE, "nothing of it was to be trusted"


async def test_untouched_part_is_gone_on_with(workstation: Workstation) -> None:
    """The control: with nothing altered only the rest of the file comes."""
    async with killed_half_way(workstation) as (_, relay, _):
        await workstation.once()
        assert relay.received < SIZE - 4 * MIB


async def test_growing_file_at_home(workstation: Workstation) -> None:
    """A bit flips in a log at home between two daemons: nothing is appended to it, it is kept aside and comes anew."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(40)
    await workstation.once()
    log = workstation.training(RUN.name) / "logs" / "train_log.jsonl"
    flip(log, 30)
    altered = log.read_bytes()
    fired(37)
    writer.log_until(44)
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        assert events(event_log, "file.conflict")
    kept = workstation.data / ".harvestd" / "versions" / log.relative_to(workstation.data)
    assert [version.read_bytes() for version in kept.iterdir()] == [altered]
    workstation.audit()
