"""Runs that hang or diverge, and boxes that do nothing, as the daemon tells of them on real OpenSSH."""

from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from harvestd.convention.metadata import progress
from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.harvest.experiments import reports
from harvestd.harvest.host import health
from support.command import Ended, harvestd_command
from support.house import GpuBox, Workstation
from support.waiting import EventLog, events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
TIMEOUT = 40.0


@pytest.fixture
def box(workstation: Workstation, tmp_path: Path) -> GpuBox:
    """Return a box on whose GPU something runs."""
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    smi.write_text("#!/bin/sh\ncase $1 in *compute-apps*) echo 4000;; *) echo NVIDIA H100;; esac\n")
    smi.chmod(0o755)
    with_path = f'ForceCommand export PATH="{smi.parent}:$PATH"; eval "$SSH_ORIGINAL_COMMAND"'
    return workstation.add_box(extra_config=[with_path])


def lines(log: Path, content: bytes) -> None:
    """Append to a log."""
    with log.open("ab") as file:
        file.write(content)


async def step(event_log: EventLog, writer: RunWriter, number: int) -> None:
    """Let a run take a step, and wait until that came home."""
    before = len(events(event_log, "file.downloaded", kind="train_log"))
    lines(writer.train_log, b'{"step": %d, "loss": 0.5, "kl": NaN}\n' % number)
    await until(lambda: len(events(event_log, "file.downloaded", kind="train_log")) > before, TIMEOUT)


async def test_a_run_that_hangs_is_told(workstation: Workstation, box: GpuBox, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its log falls silent while its process lives: told with its last step, and again after it went on and hung."""
    monkeypatch.setattr(progress, "LEAST", 1.0)
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(3)
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "file.downloaded", kind="train_log"), TIMEOUT)
        for number in range(4, 10):
            await step(event_log, writer, number)
        await until(lambda: events(event_log, "run.stalled", step=9, run_id=RUN.name, host="gpu-a"), TIMEOUT)
        await step(event_log, writer, 10)
        await until(lambda: events(event_log, "run.stalled", step=10), TIMEOUT)
        assert len(events(event_log, "run.stalled", step=9)) == 1


async def test_a_run_that_diverges_is_told(workstation: Workstation, box: GpuBox) -> None:
    """As soon as its loss is no number any more; NaN in another column is nothing to tell."""
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(3)
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "file.downloaded", kind="train_log"), TIMEOUT)
        await step(event_log, writer, 4)
        assert not events(event_log, "run.diverged")
        lines(writer.train_log, b'{"step": 5, "loss": NaN}\n{"step": 6, "loss": NaN}\n')
        await until(lambda: events(event_log, "run.diverged", step=5, what="loss is nan", run_id=RUN.name), TIMEOUT)
        await step(event_log, writer, 7)
        assert len(events(event_log, "run.diverged")) == 1


async def test_a_box_that_does_nothing_is_told(workstation: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, until something moves there."""
    monkeypatch.setattr(health, "ASK_EVERY", 0.2)
    monkeypatch.setattr(health, "IDLE_AFTER", 1.0)
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(3)
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "host.idle", host="gpu-a"), TIMEOUT)
        asked = len(events(event_log, "host.idle"))
        await anyio.to_thread.run_sync(writer.log_step, 4)
        await until(lambda: len(events(event_log, "host.idle")) == asked + 1, TIMEOUT)
    assert {each["cost"] for each in events(event_log, "host.idle")} == {None}


async def test_a_run_that_crashed_is_said_to_have_died(
    workstation: Workstation, box: GpuBox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not that it runs, with hours left: each list and the README say so, and its experiment can be named."""
    monkeypatch.setattr(reports, "EVERY", 0.0)
    smi = tmp_path / "bin" / "nvidia-smi"
    smi.write_text("#!/bin/sh\ncase $1 in *compute-apps*) ;; *) echo NVIDIA H100;; esac\n")
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(3)
    async with workstation.running(verdict={"idle_for": "2s"}) as event_log:
        await until(lambda: events(event_log, "run.died", run_id=RUN.name, host="gpu-a"), TIMEOUT)

        def asked(*arguments: str) -> Ended:
            return harvestd_command("-c", workstation.config, *arguments)

        for command in ("runs", "status"):
            done = await anyio.to_thread.run_sync(asked, command, "--json")
            (run,) = done.document["runs"]
            assert (run["state"], run["seconds_left"], run["finished"]) == ("died", None, False)
            assert run["state_since"] is not None
        (experiment,) = (await anyio.to_thread.run_sync(asked, "experiments", "--json")).document["experiments"]
        assert (experiment["state"], experiment["finished"]) == ("died", False)
        done = await anyio.to_thread.run_sync(asked, "name", RUN.name, "ablation", "--json")
        assert done.document["settled"], done.err
        readme = next(workstation.data.glob("ablation_*")) / "README.md"
        await until(lambda: readme.exists() and b"died since" in readme.read_bytes(), TIMEOUT)
    workstation.audit()
