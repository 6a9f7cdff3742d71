"""Where the daemon must not start, and what a file system does not take: refused with the reason, nothing touched."""

import errno
import os
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode
from harvestd.store.walking import rename_noreplace
from support.command import harvestd_command
from support.faults import fired
from support.house import GpuBox, Workstation
from support.small_disks import read_only, small_disk
from support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
MIB = 1024 * 1024


def write_run(box: GpuBox) -> RunWriter:
    """Write a run that goes on."""
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(3)
    return writer


async def test_read_only_data_root(workstation: Workstation) -> None:
    """On a data root that became read-only neither the daemon nor a pass starts; what is there stays as it is."""
    writer = write_run(workstation.add_box())
    workstation.state = workstation.data.with_name("state")
    with small_disk(workstation.data, 16 * MIB) as disk:
        await workstation.once()
        before = workstation.filed()
        with read_only(disk):
            with pytest.raises(OSError, match="Read-only") as refusal:
                (disk / "mine").touch()
            assert refusal.value.errno == errno.EROFS
            fired(27)
            for words in (["run"], ["once"]):
                done = harvestd_command(*words, "-c", workstation.config)
                assert done.code == ExitCode.CONFIGURATION, done
                assert f"the data root {disk} can't be written: Read-only file system" in done.err
                assert "hint: " in done.err
                assert "Traceback" not in done.err
        assert workstation.filed() == before
        assert workstation.follows(writer)()
        workstation.audit()


async def test_second_daemon(workstation: Workstation) -> None:
    """A second daemon or pass on the same data root ends with 7, naming the first, which goes on undisturbed."""
    writer = write_run(workstation.add_box())
    workstation.settings()
    with workstation.program() as process:
        await until(workstation.stands(RUN.name, "config.yaml"))
        for words in (["run"], ["once"]):
            done = harvestd_command(*words, "-c", workstation.config)
            assert done.code == ExitCode.LOCKED, done
            assert f"it is process {process.pid}" in done.err
        fired(29)
        writer.log_step(4)
        await until(workstation.follows(writer))
        assert process.poll() is None
    await workstation.once()
    workstation.audit()


async def test_name_that_is_too_long_here(workstation: Workstation, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the file system here finds too long is left out with its reason, the rest comes; a shorter one comes too."""
    writer = write_run(workstation.add_box())
    refused: list[int | None] = []

    def encrypting(source: int, name: str, target: int, final: str) -> None:
        """Move as a file system does that needs more bytes for a name than it has letters."""
        try:
            rename_noreplace(source, name, target, final if final != "config.yaml" else final * 30)
        except OSError as error:
            refused.append(error.errno)
            raise

    with monkeypatch.context() as patched:
        patched.setattr("harvestd.store.publish.rename_noreplace", encrypting)
        result = (await workstation.once())["gpu-a"]
    assert set(refused) == {errno.ENAMETOOLONG}
    fired(30)
    (reason,) = result.conflicts.values()
    assert os.strerror(errno.ENAMETOOLONG) in reason
    told = {str(row[0]) for row in workstation.catalogue("SELECT reason FROM left_out")}
    assert any(os.strerror(errno.ENAMETOOLONG) in each for each in told), told
    assert workstation.has(writer.train_log, RUN.name, "logs", "train_log.jsonl")()
    assert not workstation.stands(RUN.name, "config.yaml")()
    workstation.audit()
    await workstation.once()
    assert workstation.follows(writer)()
    workstation.audit()


@pytest.mark.parametrize("place", ["a file", "below a file", "nowhere"])
async def test_state_directory_that_can_not_be_used(workstation: Workstation, place: str) -> None:
    """Neither a daemon nor a pass starts, `doctor` finds it and `check` warns: each names the directory."""
    write_run(workstation.add_box())
    blocking = workstation.data.with_name("state")
    blocking.write_text("mine")
    workstation.state = {"a file": blocking, "below a file": blocking / "state", "nowhere": Path("/proc/none")}[place]
    workstation.settings()
    for words in (["run"], ["once"], ["doctor"]):
        done = harvestd_command(*words, "-c", workstation.config)
        if words == ["doctor"]:
            assert done.code == (ExitCode.PARTIAL if place != "nowhere" else done.code), done
        else:
            assert done.code == ExitCode.CONFIGURATION, done
        assert "Traceback" not in done.err
        assert f"state_dir {workstation.state}" in done.err + done.out or place == "nowhere"
    if place != "nowhere":
        done = harvestd_command("check", "--json", "-c", workstation.config)
        (warned,) = [each for each in done.document["warnings"] if each["key"] == "state_dir"]
        assert str(workstation.state) in warned["message"]
        assert warned["hint"]
    assert blocking.read_text() == "mine"
