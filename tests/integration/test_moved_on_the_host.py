"""Files that get another name or place on their host, one by one or with their directory: not downloaded again."""

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from harvestd.demo.writers import RunWriter
from support.house import Workstation
from support.large_checkpoints import MIB, RUN, staging_is_empty
from support.relay import Relay, relayed
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

SIZE = 12 * MIB


@pytest.fixture
async def relay(workstation: Workstation) -> AsyncIterator[Relay]:
    """Give the relay before a box, which counts the bytes that come from there."""
    box = workstation.add_box()
    async with relayed(box.port) as made:
        workstation.reach("gpu-a", made.port)
        yield made


def started(workstation: Workstation) -> RunWriter:
    """Return the writer of a run that has begun on the box."""
    writer = RunWriter(workstation.boxes["gpu-a"].root, RUN)
    writer.start()
    writer.log_until(2)
    return writer


def large(path: Path, size: int = SIZE) -> bytes:
    """Write a file that no compressor makes smaller; return its content."""
    content = os.urandom(size)
    path.write_bytes(content)
    return content


def final(workstation: Workstation, name: str) -> Path:
    """Return the place at home of a file of the final checkpoint; its experiment has another name by then."""
    (found,) = workstation.data.glob(f"*/training_run/training_state/step_final/{name}")
    return found


async def test_a_renamed_checkpoint_is_not_downloaded_again(workstation: Workstation, relay: Relay) -> None:
    """step_2 becomes step_final: its large files are made from those at home, once the host's hash says the same."""
    writer = started(workstation)
    state = writer.directory / "training_state"
    content = large(writer.begin_checkpoint(2) / "optimizer.pt")
    writer.seal_checkpoint(2)
    select = {"checkpoint": "final+latest"}
    await workstation.once(select=select)
    assert workstation.stands(RUN.name, "training_state", "step_2", "training_info.json")()
    received = relay.received
    (state / "step_latest").unlink()
    (state / "step_2").rename(state / "step_final")
    await workstation.once(select=select)
    assert final(workstation, "optimizer.pt").read_bytes() == content
    assert relay.received - received < SIZE / 8
    assert staging_is_empty(workstation)
    workstation.audit()


async def test_a_file_with_two_names_comes_once(workstation: Workstation, relay: Relay) -> None:
    """A hard link shows the same inode: both names are at home, each as a file of its own."""
    writer = started(workstation)
    content = large(writer.begin_checkpoint(2) / "optimizer.pt")
    writer.seal_checkpoint(2)
    await workstation.once(select={"checkpoint": "all"})
    received = relay.received
    directory = writer.begin_checkpoint("final")
    (directory / "optimizer.pt").unlink()
    (directory / "optimizer.pt").hardlink_to(directory.with_name("step_2") / "optimizer.pt")
    writer.seal_checkpoint("final")
    await workstation.once(select={"checkpoint": "all"})
    assert relay.received - received < SIZE / 8
    copies = [path for path in workstation.data.rglob("optimizer.pt") if ".harvestd" not in path.parts]
    assert [copy.read_bytes() for copy in copies] == [content, content]
    assert copies[0].stat().st_ino != copies[1].stat().st_ino
    workstation.audit()


async def test_shards_of_one_size_and_time_are_told_apart(workstation: Workstation, relay: Relay) -> None:
    """Files that were unpacked have whole seconds: the host's hash says which of those at home each is."""
    writer = started(workstation)
    directory = writer.begin_checkpoint(2)
    contents = {name: large(directory / name) for name in ("optimizer.pt", "a.bin", "b.bin")}
    for name in contents:
        os.utime(directory / name, (1_700_000_000, 1_700_000_000))
    writer.seal_checkpoint(2)
    select = {"checkpoint": "final+latest"}
    await workstation.once(select=select)
    received = relay.received
    moved = directory.rename(directory.with_name("step_final"))
    (moved / "a.bin").rename(moved / "c.bin")
    await workstation.once(select=select)
    assert final(workstation, "optimizer.pt").read_bytes() == contents["optimizer.pt"]
    assert final(workstation, "c.bin").read_bytes() == contents["a.bin"]
    assert final(workstation, "b.bin").read_bytes() == contents["b.bin"]
    assert relay.received - received < SIZE / 8
    workstation.audit()


@pytest.mark.parametrize("where", ["on the host", "at home", "gone at home"])
async def test_other_content_is_downloaded(workstation: Workstation, relay: Relay, where: str) -> None:
    """Neither size, time and inode nor a damaged copy at home stands for the content."""
    writer = started(workstation)
    directory = writer.begin_checkpoint(2)
    content = large(directory / "optimizer.pt")
    writer.seal_checkpoint(2)
    await workstation.once(select={"checkpoint": "all"})
    moved = directory.rename(directory.with_name("step_final")) / "optimizer.pt"
    home = workstation.training(RUN.name) / "training_state" / "step_2" / "optimizer.pt"
    if where == "on the host":
        times = (moved.stat().st_atime_ns, moved.stat().st_mtime_ns)
        with moved.open("r+b") as file:
            file.write(bytes(16))
        content = bytes(16) + content[16:]
        os.utime(moved, ns=times)
    elif where == "at home":
        with home.open("r+b") as file:
            file.write(bytes(16))
    else:
        home.unlink()
    received = relay.received
    await workstation.once(select={"checkpoint": "all"})
    assert final(workstation, "optimizer.pt").read_bytes() == content
    assert relay.received - received > SIZE
    assert staging_is_empty(workstation)


async def test_a_daemon_says_that_it_copied(workstation: Workstation) -> None:
    """The event names both places, so that nobody looks for bytes that never came."""
    workstation.add_box()
    writer = started(workstation)
    directory = writer.begin_checkpoint(2)
    large(directory / "optimizer.pt")
    writer.seal_checkpoint(2)
    await workstation.once(select={"checkpoint": "all"})
    directory.rename(directory.with_name("step_final"))
    async with workstation.running(select={"checkpoint": "all"}) as said:
        await until(lambda: events(said, "checkpoint.completed"))
    (copied,) = events(said, "file.copied")
    assert (copied["bytes"], copied["host"]) == (SIZE, "gpu-a")
    assert str(copied["path"]).endswith("step_final/optimizer.pt")
    assert str(copied["old"]).endswith("step_2/optimizer.pt")
