"""Run directories that get another name on their host: known by their content, and nothing is downloaded twice."""

import json
import os

import anyio
import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.command import harvestd_command
from support.house import Workstation
from support.large_checkpoints import MIB, RUN, is_home, journalled, staging_is_empty, write_large_checkpoint
from support.relay import relayed
from support.waiting import events, holds, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

SIZE = 12 * MIB
OTHER = "run_2025-08-22_11-12-13"


@pytest.mark.parametrize("name", [f"{RUN.name}_baseline", OTHER], ids=["a suffix", "another time"])
async def test_a_renamed_run_is_not_downloaded_again(workstation: Workstation, name: str) -> None:
    """Its files, log and checkpoint stay where they are at home, and the log goes on there."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root, SIZE, names=("optimizer.pt",))
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        async with workstation.running() as event_log:
            await until(is_home(workstation, writer))
            await until(workstation.follows(writer))
            await until(workstation.stands(RUN.name, "training_state", "step_latest"))
            filed = workstation.filed()
            received = relay.received
            new = writer.directory.rename(writer.directory.with_name(name))
            await until(lambda: events(event_log, "run.renamed", path=str(new)))
            log = new / "logs" / "train_log.jsonl"
            with log.open("ab") as file:
                file.write(b'{"step": 3, "loss": 0.5}\n')
            home = next(workstation.data.glob("*/training_run/logs/train_log.jsonl"))
            await until(holds(home, log.read_bytes()))
            unproven = "SELECT place FROM files WHERE ctime_ns = 0 AND inode != 0"
            await until(lambda: not workstation.catalogue(unproven))
            assert relay.received - received < SIZE / 8
            assert not events(event_log, "file.conflict")
    after = {path: content for path, content in workstation.filed().items() if not path.endswith("train_log.jsonl")}
    assert after == {path: content for path, content in filed.items() if not path.endswith("train_log.jsonl")}
    assert len(workstation.catalogue("SELECT * FROM experiments")) == 1
    assert workstation.catalogue("SELECT name, place FROM runs") == [(name[: len(RUN.name)], str(new))]
    assert all(str(place).startswith(f"{new}/") for (place,) in workstation.catalogue("SELECT place FROM files"))
    workstation.audit()


async def test_a_transfer_goes_on_under_the_new_name(workstation: Workstation) -> None:
    """What is half here of a checkpoint when its run is renamed is compared on the host, and not sent again."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root, SIZE, names=("optimizer.pt",))
    content = (writer.directory / "training_state" / "step_final" / "optimizer.pt").read_bytes()
    async with relayed(box.port) as relay:
        relay.rate = 2 * MIB
        workstation.reach("gpu-a", relay.port)
        async with workstation.running() as event_log:
            await until(lambda: journalled(workstation) >= SIZE // 2)
            # What was opened under the old name could be read to its end.
            relay.cut()
            new = writer.directory.rename(writer.directory.with_name(f"{RUN.name}_baseline"))
            await until(lambda: events(event_log, "run.renamed", path=str(new)))
            kept = journalled(workstation)
            relay.rate = None
            await until(lambda: events(event_log, "checkpoint.completed"))
            assert SIZE // 2 <= kept < SIZE, "it was half here"
            assert relay.received < SIZE + SIZE // 3
            await until(lambda: staging_is_empty(workstation))
    (home,) = workstation.data.glob("*/training_run/training_state/step_final/optimizer.pt")
    assert home.read_bytes() == content
    workstation.audit()


async def test_files_of_one_size_and_time_keep_their_transfers(workstation: Workstation) -> None:
    """Shards that were unpacked have whole seconds: what is here of one is not taken for the other's."""
    box = workstation.add_box()
    names = ("optimizer.pt", "shard.bin")
    writer = write_large_checkpoint(box.root, SIZE, names=names)
    for name in names:
        os.utime(writer.directory / "training_state" / "step_final" / name, (1_700_000_000, 1_700_000_000))
    async with relayed(box.port) as relay:
        relay.rate = 2 * MIB
        workstation.reach("gpu-a", relay.port)
        async with workstation.running(limits={"bulk_connections_per_host": 1}) as event_log:
            await until(lambda: journalled(workstation) >= SIZE // 2)
            relay.cut()
            relay.rate = None
            await until(lambda: events(event_log, "checkpoint.completed"))
            assert is_home(workstation, writer)()
            assert relay.received < 2 * SIZE + SIZE // 2
            await until(lambda: staging_is_empty(workstation))
    workstation.audit()


async def test_a_run_renamed_while_no_daemon_ran_is_known(workstation: Workstation) -> None:
    """Moved by a copy, as `mv` does from disk to disk: the inodes differ, the times and the content are the same."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(3)
    writer.finish()
    await workstation.once()
    filed = workstation.filed()
    new = writer.directory.with_name(f"{RUN.name}_kept")
    await anyio.run_process(["cp", "-a", str(writer.directory), str(new)])
    for path in sorted(writer.directory.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    writer.directory.rmdir()
    (result,) = (await workstation.once()).values()
    assert (result.files, result.bytes) == (0, 0)
    assert workstation.filed() == filed
    assert workstation.catalogue("SELECT place FROM runs") == [(str(new),)]
    workstation.audit()


async def test_a_copy_is_a_run_of_its_own(workstation: Workstation) -> None:
    """As long as the first one is there nothing was renamed; nor was it where the files of both differ."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(3)
    await workstation.once()
    await anyio.run_process(["cp", "-a", str(writer.directory), str(writer.directory.with_name(OTHER))])
    await workstation.once()
    assert len(workstation.catalogue("SELECT * FROM runs")) == 2
    another = RunWriter(box.root, RunSpec(timestamp="2025-08-23_01-02-03"))
    another.start()
    another.log_until(3)
    for run in (writer.directory, writer.directory.with_name(OTHER)):
        run.rename(run.parents[1] / run.name)
    await workstation.once()
    assert len(workstation.catalogue("SELECT * FROM runs")) == 3
    workstation.audit()


async def test_what_differs_after_a_rename_is_brought_anew(workstation: Workstation) -> None:
    """A file that has the size and the time of the one at home, and other content, is told by its hash."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(3)
    writer.finish()
    await workstation.once()
    new = writer.directory.rename(writer.directory.with_name(f"{RUN.name}_edited"))
    info = new / "training_state" / "step_final" / "model" / "adapter_config.json"
    times = (info.stat().st_atime_ns, info.stat().st_mtime_ns)
    content = info.read_bytes().replace(b"8", b"9")
    info.write_bytes(content)
    os.utime(info, ns=times)
    await workstation.once()
    (home,) = workstation.data.glob("*/training_run/training_state/step_final/model/adapter_config.json")
    await workstation.once()
    assert home.read_bytes() == content
    assert len(workstation.catalogue("SELECT * FROM runs")) == 1
    workstation.audit()


async def test_what_was_asked_for_moves_with_the_run(workstation: Workstation) -> None:
    """A run that a person ignores is ignored under its new name."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(3)
    await workstation.once()
    await anyio.to_thread.run_sync(lambda: harvestd_command("-c", workstation.config, "ignore", RUN.name))
    await workstation.once()
    new = writer.directory.rename(writer.directory.with_name(f"{RUN.name}_ignored"))
    (new / "config_extra.yaml").write_text("a: 1\n")
    filed = workstation.filed()
    await workstation.once()
    assert workstation.filed() == filed
    assert [place for (place,) in workstation.catalogue("SELECT place FROM requests")] == [str(new)]
    workstation.audit()


async def test_hosts_of_one_file_system_agree_on_a_new_name(workstation: Workstation) -> None:
    """What another host still shows by the old name may be a copy of it: its next scan is waited for, or its end."""
    root = workstation.data.with_name("shared")
    root.mkdir()
    first, second = (workstation.add_box(name, root=root) for name in ("gpu-a", "gpu-b"))
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(3)
    writer.finish()
    async with relayed(second.port) as relay:
        ports = {"gpu-a": first.port, "gpu-b": relay.port}
        labels = [{"name": name, "storage": "fs", "hardware": "h100"} for name in ports]
        groups = [{"targets": [f"127.0.0.1:{ports[each['name']]}"], "labels": each} for each in labels]
        workstation.config.with_name("targets.json").write_text(json.dumps(groups))
        workstation.boxes.clear()
        sections: dict[str, dict[str, object]] = {
            "ssh": {"user": first.server.user, "identity_files": [str(first.server.client_key)], "keepalive": "1s"},
            "remote": {"roots": [str(root)]},
            "targets": {"files": ["targets.json"]},
        }
        async with workstation.running(**sections) as event_log:
            await until(is_home(workstation, writer))
            await until(workstation.stands(RUN.name, "training_state", "step_latest"))
            await until(lambda: len(events(event_log, "host.connected")) == 2)
            await until(workstation.stands(RUN.name, "config.yaml"))
            filed = workstation.filed()
            both = writer.directory.rename(writer.directory.with_name(f"{RUN.name}_both"))
            await until(lambda: events(event_log, "run.renamed", path=str(both)))
            relay.silence()
            alone = str(both.rename(both.with_name(f"{RUN.name}_alone")))
            await until(lambda: events(event_log, "run.renamed", path=alone), 60)
            reported = [(str(each["event"]), each.get("path") or each.get("host")) for each in event_log]
            assert reported.index(("host.lost", "gpu-b")) < reported.index(("run.renamed", alone))
            assert len(events(event_log, "run.renamed")) == 2
            assert len(events(event_log, "run.discovered")) == 1
            await until(lambda: not workstation.catalogue("SELECT place FROM files WHERE ctime_ns = 0"))
    assert workstation.filed() == filed
    assert workstation.catalogue("SELECT place FROM runs") == [(alone,)]
    workstation.audit()
