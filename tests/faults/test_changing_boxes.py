"""What happens to a tree on the box while it is watched: replaced, emptied, cut, shut; what is here stays here."""

import os
import shutil
import stat

import pytest
import structlog.testing

from harvestd.demo.content import RunSpec
from support.changing import RUN, at_home, kept, write_eval, write_run
from support.faults import fired
from support.house import Workstation
from support.openssh import obeying_permissions
from support.relay import relayed
from support.waiting import events, holds, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

OTHER = RunSpec(timestamp="2025-08-21_03-31-43")
LOG = ("logs", "train_log.jsonl")
MIB = 1024 * 1024


async def test_large_file_truncated_while_it_is_read(workstation: Workstation) -> None:
    """A leaf that is cut while its bytes come: the good version stays until the new one is whole, and then is kept."""
    box = workstation.add_box()
    write_run(box.root)
    evals = write_eval(box.root)
    metrics = evals.leaf(2) / "metrics.csv"
    await workstation.once()
    here = at_home(workstation, metrics)
    good = here.read_bytes()
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        async with workstation.running(limits={"bulk_connections_per_host": 1}) as event_log:
            await until(lambda: events(event_log, "host.connected"))
            relay.rate = MIB
            metrics.write_bytes(os.urandom(12 * MIB).replace(b"\0", b"\n"))
            evals.seal(2)
            staging = workstation.data / ".harvestd" / "staging"
            await until(lambda: any(path.stat().st_size > MIB for path in staging.iterdir()))
            assert here.read_bytes() == good
            os.truncate(metrics, 100)
            evals.seal(2)
            fired(15)
            relay.rate = None
            await until(holds(here, metrics.read_bytes()))
    assert len(here.read_bytes()) == 100
    assert kept(workstation, here) == [good]
    workstation.audit()


async def test_log_copied_and_truncated_as_logrotate_does(workstation: Workstation) -> None:
    """A log that was copied aside and cut, then written on: the old content stands among the versions."""
    box = workstation.add_box()
    writer = write_run(box.root)
    await workstation.once()
    here = workstation.training(RUN.name).joinpath(*LOG)
    old = here.read_bytes()
    shutil.copy(writer.train_log, writer.train_log.with_name("train_log.jsonl.1"))
    inode = writer.train_log.stat().st_ino
    os.truncate(writer.train_log, 0)
    writer.log_step(4)
    assert writer.train_log.stat().st_ino == inode
    fired(22)
    await workstation.once()
    assert here.read_bytes() == writer.train_log.read_bytes()
    assert kept(workstation, here) == [old]
    workstation.audit()


async def test_directory_becomes_a_file_and_a_file_a_directory(workstation: Workstation) -> None:
    """What changes its kind on the box loses nothing here, and the runs beside it go on."""
    box = workstation.add_box()
    writer = write_run(box.root)
    other = write_run(box.root, OTHER)
    await workstation.once()
    before = workstation.filed()
    aside = box.root / "aside"
    (writer.directory / "tensorboard").rename(aside)
    (writer.directory / "tensorboard").write_bytes(b"a file now\n")
    writer.train_log.unlink()
    writer.train_log.mkdir()
    (writer.train_log / "part").write_bytes(b"within\n")
    other.log_step(4)
    assert stat.S_ISDIR(writer.train_log.stat().st_mode)
    assert stat.S_ISREG((writer.directory / "tensorboard").stat().st_mode)
    fired(18)
    await workstation.once()
    after = workstation.filed()
    grown = {path for path in before if OTHER.name in path or after.get(path) != before[path]}
    assert {path: after[path] for path in before.keys() - grown} == {p: before[p] for p in before.keys() - grown}
    assert workstation.training(RUN.name).joinpath(*LOG).is_file()
    assert list((workstation.training(RUN.name) / "tensorboard").iterdir())
    assert workstation.has(other.train_log, OTHER.name, *LOG)()
    # And back: what is a file and a directory again is followed again.
    shutil.rmtree(writer.train_log)
    (writer.directory / "tensorboard").unlink()
    aside.rename(writer.directory / "tensorboard")
    writer.train_log.write_bytes(workstation.training(RUN.name).joinpath(*LOG).read_bytes())
    writer.log_step(5)
    await workstation.once()
    assert workstation.has(writer.train_log, RUN.name, *LOG)()
    workstation.audit()


async def test_files_of_no_bytes_come_flagged_and_replace_nothing_for_good(workstation: Workstation) -> None:
    """A box whose disk is full leaves empty files: they come as they are, flagged, and the good ones are kept."""
    box = workstation.add_box()
    write_run(box.root)
    evals = write_eval(box.root)
    metrics = evals.leaf(2) / "metrics.csv"
    await workstation.once()
    here = at_home(workstation, metrics)
    good = here.read_bytes()
    metrics.write_bytes(b"")
    evals.seal(2)
    assert metrics.stat().st_size == 0
    with structlog.testing.capture_logs() as event_log:
        await workstation.once()
    fired(19)
    assert here.read_bytes() == b""
    assert kept(workstation, here) == [good]
    (told,) = events(event_log, "file.downloaded", bytes=0)
    assert told["log_level"] == "warning"
    assert "no bytes" in str(told["error"])
    reasons = workstation.catalogue("SELECT reason FROM files WHERE size = 0 AND kind = 'metrics'")
    assert ["no bytes" in str(reason) for (reason,) in reasons] == [True]
    workstation.audit()


async def test_root_that_is_emptied_deletes_nothing_and_is_told_once(workstation: Workstation) -> None:
    """All of a root is gone after a good look: everything stays here, and one event says so until it is back."""
    box = workstation.add_box()
    writer = write_run(box.root)
    write_eval(box.root)
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        await until(lambda: list(workstation.data.glob("*/eval_results/*/*/*/*/run_meta.json")))
        before = workstation.filed()
        aside = box.root.with_name("aside")
        aside.mkdir()
        for each in list(box.root.iterdir()):
            each.rename(aside / each.name)
        assert list(box.root.iterdir()) == []
        await until(lambda: events(event_log, "host.root_missing"))
        fired(20)
        polled = len([one for one in event_log if one["event"] == "host.polled"])
        await until(lambda: len([one for one in event_log if one["event"] == "host.polled"]) > polled + 5)
        assert len(events(event_log, "host.root_missing", path=box.root)) == 1
        assert workstation.filed() == before
        for each in list(aside.iterdir()):
            each.rename(box.root / each.name)
        writer.log_step(4)
        await until(workstation.follows(writer))
        assert len(events(event_log, "host.root_missing")) == 1
    workstation.audit()


async def test_subtree_that_may_not_be_read_holds_up_nothing(workstation: Workstation) -> None:
    """A run and a file without permission: named with the reason, everything else comes; opened, they come too."""
    box = workstation.add_box(extra_config=obeying_permissions())
    shut = write_run(box.root)
    writer = write_run(box.root, OTHER)
    shut.directory.chmod(0)
    (writer.directory / "config.yaml").chmod(0o600)
    writer.events.chmod(0)
    result = (await workstation.once())["gpu-a"]
    assert "permission denied" in {trouble.reason for trouble in result.failed.values()}
    fired(21)
    assert workstation.has(writer.train_log, OTHER.name, *LOG)()
    assert not workstation.stands(RUN.name)()
    reasons = workstation.catalogue("SELECT reason FROM left_out")
    assert ("its directory may not be listed on the box",) in reasons
    shut.directory.chmod(0o755)
    writer.events.chmod(0o644)
    await workstation.once()
    assert workstation.follows(shut)()
    assert workstation.follows(writer)()
    workstation.audit()
