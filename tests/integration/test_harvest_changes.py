"""What changes on the box while it is read or afterwards, and what a person changes at home: nothing good is lost."""

import os
from collections.abc import Sequence

import pytest
from anyio.abc import TaskStatus

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.harvest.host.failures import FailureTracker
from harvestd.harvest.transfer.small import SmallFileFetcher
from harvestd.planning.plan import FetchGroup
from harvestd.remote.api import Reader
from support.changing import RUN, at_home, kept, write_eval, write_run
from support.faults import fired
from support.house import Moved, Workstation
from support.relay import relayed
from support.waiting import events, holds, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

MIB = 1024 * 1024


async def test_rewritten_metrics_come_again_and_the_old_ones_are_kept(workstation: Workstation) -> None:
    """A re-evaluation rewrites a leaf in place: the new one replaces the old one, which stands among the versions."""
    box = workstation.add_box()
    write_run(box.root)
    evals = write_eval(box.root)
    metrics = evals.leaf(2) / "metrics.csv"
    await workstation.once()
    old = metrics.read_bytes()
    assert at_home(workstation, metrics).read_bytes() == old
    metrics.write_bytes(old.replace(b"\n", b"0\n"))
    evals.seal(2)
    await workstation.once()
    assert at_home(workstation, metrics).read_bytes() == metrics.read_bytes() != old
    assert kept(workstation, at_home(workstation, metrics)) == [old]
    workstation.audit()


async def test_same_size_rewritten_comes_again(workstation: Workstation) -> None:
    """A file rewritten with as many bytes is not taken for the old one."""
    box = workstation.add_box()
    write_run(box.root)
    evals = write_eval(box.root)
    metrics = evals.leaf(2) / "metrics.csv"
    await workstation.once()
    old = metrics.read_bytes()
    metrics.write_bytes(old[::-1])
    assert metrics.stat().st_size == len(old)
    assert metrics.read_bytes() != old
    fired(16)
    evals.seal(2)
    await workstation.once()
    assert at_home(workstation, metrics).read_bytes() == old[::-1]
    assert kept(workstation, at_home(workstation, metrics)) == [old]
    workstation.audit()


async def test_touched_large_file_is_hashed_and_not_downloaded(workstation: Workstation) -> None:
    """New times alone move no bytes: the box is asked for the hash, once."""
    box = workstation.add_box()
    write_run(box.root)
    evals = write_eval(box.root)
    metrics = evals.leaf(2) / "metrics.csv"
    metrics.write_bytes(os.urandom(3 * MIB).replace(b"\0", b"\n"))
    evals.seal(2)
    await workstation.once()
    here = at_home(workstation, metrics)
    before = here.stat()
    os.utime(metrics)
    evals.seal(2)
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        moved = Moved()
        (result,) = (await workstation.once(moved)).values()
        assert not result.failed
        assert moved.bytes.get("gpu-a", 0) < MIB
        assert 0 < relay.received < MIB
    assert here.stat().st_ino == before.st_ino
    rows = workstation.catalogue("SELECT place, mtime_ns FROM files")
    assert (str(metrics), metrics.stat().st_mtime_ns) in rows, "the touch was not seen"
    assert kept(workstation, here) == []


async def test_large_file_rewritten_with_as_many_bytes_comes(workstation: Workstation) -> None:
    """Where the hash on the box says that the content differs, the file is fetched."""
    box = workstation.add_box()
    write_run(box.root)
    evals = write_eval(box.root)
    metrics = evals.leaf(2) / "metrics.csv"
    old = os.urandom(2 * MIB).replace(b"\0", b"\n")
    metrics.write_bytes(old)
    evals.seal(2)
    await workstation.once()
    metrics.write_bytes(old[::-1])
    fired(16)
    evals.seal(2)
    (result,) = (await workstation.once()).values()
    assert not result.failed
    assert at_home(workstation, metrics).read_bytes() == old[::-1]
    assert kept(workstation, at_home(workstation, metrics)) == [old]
    workstation.audit()


async def test_small_file_that_changes_while_it_is_read_is_never_torn(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A sealed file that is written again and again while passes run is at every moment one of its versions."""
    box = workstation.add_box()
    write_run(box.root)
    evals = write_eval(box.root)
    metrics = evals.leaf(2) / "metrics.csv"
    versions = [metrics.read_bytes(), *(bytes([65 + number]) * MIB for number in range(26))]
    seen: set[bytes] = set()
    reasons: list[str] = []
    failed = FailureTracker.failed

    def noted(self: FailureTracker, place: str, reason: str) -> None:
        reasons.append(reason)
        failed(self, place, reason)

    monkeypatch.setattr(FailureTracker, "failed", noted)
    async with relayed(box.port) as relay:
        relay.rate = 4 * MIB
        workstation.reach("gpu-a", relay.port)
        async with workstation.running():
            await until(workstation.stands(RUN.name, "config.yaml"))
            here = at_home(workstation, metrics)
            numbers = iter(range(1000))

            def rewritten() -> bool:
                metrics.write_bytes(versions[1 + next(numbers) % 26])
                evals.seal(2)
                if here.exists():
                    seen.add(here.read_bytes())
                return len(reasons) >= 2

            # The situation: twice at least it was read while it changed, as the box or the two versions told.
            await until(rewritten)
            relay.rate = None
            await until(holds(here, metrics.read_bytes()))
            seen.add(here.read_bytes())
    assert seen <= set(versions)
    workstation.audit()


async def test_truncated_log_starts_anew_and_the_old_one_is_kept(workstation: Workstation) -> None:
    """A log that is truncated and written anew: the old content stands among the versions, the new one in its place."""
    box = workstation.add_box()
    writer = write_run(box.root)
    here = at_home(workstation, writer.train_log)
    async with workstation.running() as event_log:
        await until(lambda: at_home(workstation, writer.train_log).exists())
        here = at_home(workstation, writer.train_log)
        await until(holds(here, writer.train_log.read_bytes()))
        old = writer.train_log.read_bytes()
        writer.train_log.write_bytes(b"")
        assert writer.train_log.stat().st_size == 0
        fired(22)
        writer.log_step(1)
        await until(holds(here, writer.train_log.read_bytes()))
        writer.log_step(2)
        await until(holds(here, writer.train_log.read_bytes()))
        assert len(events(event_log, "file.conflict")) == 1
    assert kept(workstation, here) == [old]
    workstation.audit()


async def test_log_replaced_by_a_longer_one_starts_anew(workstation: Workstation) -> None:
    """Another file under the same name, longer than before, is not appended to the old one's bytes."""
    box = workstation.add_box()
    writer = write_run(box.root)
    await workstation.once()
    here = at_home(workstation, writer.train_log)
    old = here.read_bytes()
    assert old == writer.train_log.read_bytes()
    other = writer.train_log.with_name("new")
    other.write_bytes(old.replace(b'"step": 1', b'"step": 9') + old)
    other.rename(writer.train_log)
    fired(22)
    await workstation.once()
    assert here.read_bytes() == writer.train_log.read_bytes()
    assert kept(workstation, here) == [old]
    workstation.audit()


async def test_vanished_file_is_recorded_and_causes_no_storm(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A leaf that vanishes between the look and the read: noted, asked for a few times at the most, others come."""
    box = workstation.add_box()
    write_run(box.root)
    evals = write_eval(box.root)
    write_eval(box.root, 3)
    gone = evals.leaf(2) / "metrics.csv"
    aside = gone.with_name("metrics.csv.part")
    fetches: list[int] = []
    fetch = SmallFileFetcher.fetch

    async def vanishing(
        self: SmallFileFetcher, groups: Sequence[FetchGroup], reader: Reader, *, task_status: TaskStatus[None]
    ) -> None:
        fetches.append(len(groups))
        gone.rename(aside)
        await fetch(self, groups, reader, task_status=task_status)
        aside.rename(gone)

    monkeypatch.setattr(SmallFileFetcher, "fetch", vanishing)
    monkeypatch.setattr("harvestd.harvest.host.failures.FIRST_PAUSE", 0.1)
    (result,) = (await workstation.once()).values()
    assert result.failed[str(evals.leaf(2))].reason == "metrics.csv: vanished"
    fired(17)
    # A look that falls into the moment in which it is gone plans nothing of it, and there is nothing to fail.
    assert 1 <= result.failed[str(evals.leaf(2))].attempts <= 3
    assert len(fetches) <= 5
    assert not at_home(workstation, gone).exists()
    assert at_home(workstation, evals.leaf(3) / "metrics.csv").exists()
    workstation.audit()


async def test_file_of_a_person_at_the_target_stays(workstation: Workstation) -> None:
    """A different file that stands at the target already is left alone, told once, and not fetched again and again."""
    box = workstation.add_box()
    write_run(box.root)
    await workstation.once()
    evals = write_eval(box.root)
    mine = at_home(workstation, evals.leaf(2) / "metrics.csv")
    mine.parent.mkdir(parents=True)
    mine.write_bytes(b"mine\n")
    straight = box.port
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        async with workstation.running() as event_log:
            await until(lambda: events(event_log, "file.conflict"))
            await until(holds(mine.with_name("run_meta.json"), (evals.leaf(2) / "run_meta.json").read_bytes()))
            counted = relay.received
            writer = RunWriter(box.root, RunSpec(timestamp="2025-08-21_03-31-43"))
            writer.start()
            writer.log_until(2)
            await until(workstation.has(writer.train_log, writer.run.name, "logs", "train_log.jsonl"))
            assert len(events(event_log, "file.conflict")) == 1
            assert relay.received - counted < 40_000
    assert mine.read_bytes() == b"mine\n"
    workstation.reach("gpu-a", straight)
    (result,) = (await workstation.once()).values()
    assert list(result.conflicts) == [str(mine.relative_to(workstation.data))]
    assert mine.read_bytes() == b"mine\n"
    assert kept(workstation, mine) == []


async def test_published_file_that_a_person_edited_is_not_replaced(workstation: Workstation) -> None:
    """A published file that was edited here and then changed on the box: the edit stays, and the conflict is told."""
    box = workstation.add_box()
    write_run(box.root)
    evals = write_eval(box.root)
    metrics = evals.leaf(2) / "metrics.csv"
    await workstation.once()
    here = at_home(workstation, metrics)
    here.write_bytes(b"edited here\n")
    metrics.write_bytes(metrics.read_bytes() + b"5,1.0\n")
    evals.seal(2)
    (result,) = (await workstation.once()).values()
    assert list(result.conflicts) == [str(here.relative_to(workstation.data))]
    assert here.read_bytes() == b"edited here\n"


async def test_experiment_that_a_person_replaced_by_a_link_stops_nobody(workstation: Workstation) -> None:
    """An experiment's directory that became a link is not written through; the box's other runs go on."""
    box = workstation.add_box()
    writer = write_run(box.root)
    await workstation.once()
    experiment = workstation.experiment(RUN.name)
    assert experiment is not None
    elsewhere = workstation.data.with_name("another disk")
    experiment.rename(elsewhere)
    experiment.symlink_to(elsewhere)
    before = {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()}
    async with workstation.running() as event_log:
        write_eval(box.root)
        writer.log_step(4)
        other = RunWriter(box.root, RunSpec(timestamp="2025-08-21_03-31-43"))
        other.start()
        other.log_until(2)
        await until(workstation.has(other.train_log, other.run.name, "logs", "train_log.jsonl"))
        await until(lambda: len(events(event_log, "file.conflict")) >= 3)
    assert {path: path.read_bytes() for path in elsewhere.rglob("*") if path.is_file()} == before
