"""Files that have their length before their content: held back, and brought as they are once that is final."""

import os
from pathlib import Path

import pytest

from harvestd.convention.scan import completeness
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode
from support.changing import write_eval
from support.command import harvestd_command
from support.house import Workstation
from support.large_checkpoints import MIB, RUN, is_absent, is_home, write_large_checkpoint
from support.relay import relayed
from support.waiting import events, holds, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

SIZE = 6 * MIB


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take no file for final within a test."""
    monkeypatch.setattr(completeness, "FOR_GOOD", 1e6)


def small_checkpoint(workstation: Workstation) -> RunWriter:
    """Write a run whose whole checkpoint is collected in memory."""
    writer = RunWriter(workstation.add_box().root, RUN)
    writer.start()
    writer.log_until(2)
    writer.finish()
    return writer


def lost(path: Path) -> bytes:
    """Let a file lose its content but for its beginning and its end, as its marker is there; returns the content."""
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(len(content) - 600) + content[-500:])
    marker = path.parent / "training_info.json"
    os.utime(marker)
    return content


@pytest.mark.usefixtures("patient")
async def test_a_checkpoint_waits_for_its_content(workstation: Workstation) -> None:
    """The archive has its directory and its marker already; it comes with the checksums that belong to it."""
    writer = small_checkpoint(workstation)
    archive = writer.directory / "training_state" / "step_final" / "optimizer.pt"
    content = lost(archive)
    (result,) = (await workstation.once()).values()
    assert [trouble.reason for place, trouble in result.failed.items() if place.endswith("step_final")] == [
        "optimizer.pt: the content of its zip archive is not whole"
    ]
    assert is_absent(workstation)
    archive.write_bytes(content)
    os.utime(archive.parent / "training_info.json")
    await workstation.once()
    assert is_home(workstation, writer)()
    workstation.audit()


@pytest.mark.usefixtures("patient")
async def test_large_files_of_zero_bytes_are_held_back_and_named(workstation: Workstation) -> None:
    """They were given their length in advance. The verdict says so; asking again costs no download."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root, SIZE, names=("optimizer.pt", "pytorch_model.bin"))
    model = writer.directory / "training_state" / "step_final" / "pytorch_model.bin"
    content = model.read_bytes()
    model.write_bytes(bytes(SIZE))
    os.utime(model.parent / "training_info.json")
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        async with workstation.running() as event_log:
            await until(lambda: [each for each in events(event_log, "file.rejected") if "zero bytes" in each["error"]])
            assert is_absent(workstation)
            received = relay.received
            assert received < 3 * SIZE, "what is here is compared on the host, not sent again"
            model.write_bytes(content)
            os.utime(model.parent / "training_info.json")
            await until(is_home(workstation, writer))
    workstation.audit()


async def test_what_is_final_comes_as_it_is_and_says_so(workstation: Workstation) -> None:
    """A disk that was full leaves such files for good: they come, large or small, with a warning and a remark."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root, SIZE, names=("optimizer.pt",))
    step = writer.directory / "training_state" / "step_final"
    (step / "optimizer.pt").write_bytes(bytes(SIZE))
    (step / "scheduler.pt").write_bytes(bytes(900))
    os.utime(step / "training_info.json")
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "checkpoint.completed"))
        assert is_home(workstation, writer)()
        flagged = [each for each in events(event_log, "file.downloaded") if each["log_level"] == "warning"]
        assert {Path(str(each["path"])).name for each in flagged} == {"optimizer.pt", "scheduler.pt"}
        assert all("zero bytes" in each["error"] for each in flagged)
    reasons = workstation.catalogue("SELECT reason FROM files WHERE place LIKE '%.pt'")
    assert len(reasons) == 2
    assert all("zero bytes" in str(reason) for (reason,) in reasons)
    workstation.audit()


async def test_what_is_no_whole_text_or_tensor_comes_once_it_is_final(workstation: Workstation) -> None:
    """No doubt keeps a file on its host for good: a torn configuration, tensors with more behind them, metrics."""
    writer = small_checkpoint(workstation)
    box = workstation.boxes["gpu-a"]
    leaf = write_eval(box.root, 2).leaf(2)
    with (leaf / "metrics.csv").open("ab") as metrics:
        metrics.write(bytes(64) + b"\n")
    os.utime(leaf / "run_meta.json")
    (writer.directory / "resume_config.yaml").write_bytes(bytes(300))
    model = writer.directory / "training_state" / "step_final" / "model" / "adapter_model.safetensors"
    with model.open("ab") as tensors:
        tensors.write(b"trailer")
    os.utime(model.parents[1] / "training_info.json")
    names = {"adapter_model.safetensors", "resume_config.yaml", "metrics.csv"}
    async with workstation.running() as event_log:

        def flagged() -> set[str]:
            reported = (each for each in events(event_log, "file.downloaded") if each["log_level"] == "warning")
            return {Path(str(each["path"])).name for each in reported}

        await until(lambda: flagged() == names)
    assert is_home(workstation, writer)()
    workstation.audit()


@pytest.mark.usefixtures("patient")
async def test_records_wait_for_their_end(workstation: Workstation) -> None:
    """A gzip file ends with the checksum of its content; what was unpacked to another one is held back alone."""
    small_checkpoint(workstation)
    leaf = write_eval(workstation.boxes["gpu-a"].root, 2).leaf(2)
    records = leaf / "records.jsonl.gz"
    content = records.read_bytes()
    records.write_bytes(content[:-8] + bytes(8))
    os.utime(leaf / "run_meta.json")
    (result,) = (await workstation.once(select={"records": True})).values()
    assert [place.rpartition("/")[2] for place in result.failed] == ["records.jsonl.gz"]
    found = workstation.catalogue("SELECT target FROM files WHERE place LIKE '%metrics.csv'")
    assert found
    verdict = harvestd_command("-c", workstation.config, "safe", "gpu-a")
    assert verdict.code == ExitCode.NOT_SAFE
    assert "records.jsonl.gz" in verdict.out
    records.write_bytes(content)
    os.utime(leaf / "run_meta.json")
    await workstation.once(select={"records": True})
    (home,) = workstation.data.rglob("records.jsonl.gz")
    assert holds(home, content)()
    workstation.audit()
