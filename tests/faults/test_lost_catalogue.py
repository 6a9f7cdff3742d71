"""A catalogue that is gone, damaged, or of another time: noticed, made anew, and nothing is fetched twice for it."""

import json
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from msgspec.structs import asdict

from harvestd.catalogue.state_dir import FILE_NAME
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run, write_convention_example
from harvestd.errors import ExitCode
from harvestd.harvest.rebuild import read_back
from harvestd.store.root import DataRoot
from support.command import Ended, harvestd_command
from support.faults import fired
from support.house import Moved, Workstation
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
CHECK = 64 * 1024
"""Bytes that questions about files may cost; the files have many times as many."""


def catalogue_of(workstation: Workstation) -> Path:
    """Return the catalogue's file."""
    return workstation.data / ".harvestd" / FILE_NAME


def lose_catalogue(workstation: Workstation) -> None:
    """Delete the catalogue with all that belongs to it."""
    for part in catalogue_of(workstation).parent.glob(f"{FILE_NAME}*"):
        part.unlink()
    assert not catalogue_of(workstation).exists()


def asking(workstation: Workstation, *arguments: str) -> Ended:
    """Run a command with the workstation's configuration."""
    return harvestd_command("-c", workstation.config, *arguments)


def recorded(workstation: Workstation) -> list[tuple[object, ...]]:
    """Return what the catalogue says of files, runs and experiments that a rebuild must bring back."""
    files = workstation.catalogue("SELECT target, place, host, kind, size, sha256, marker FROM files ORDER BY target")
    runs = workstation.catalogue("SELECT id, name, host, experiment, storage, place FROM runs ORDER BY id")
    return [*files, *runs, *workstation.catalogue("SELECT id, directory, name FROM experiments ORDER BY id")]


async def test_nothing_is_fetched_twice(workstation: Workstation) -> None:
    """Without its catalogue a data root is read back from manifests and files; then only what is new comes."""
    box = workstation.add_box()
    write_convention_example(box.root)
    await workstation.once()
    before, filed = recorded(workstation), workstation.filed()
    lose_catalogue(workstation)
    fired(35)
    moved = Moved()
    (result,) = (await workstation.once(moved)).values()
    assert recorded(workstation) == before
    assert workstation.filed() == filed
    assert sum(moved.bytes.values()) < sum(len(each) for each in filed.values() if isinstance(each, bytes)) / 10
    assert not result.conflicts
    workstation.audit()


async def test_growing_files_go_on_where_they_are(workstation: Workstation) -> None:
    """What was appended after the last manifest is not cut off, and the daemon that rebuilds goes on from there."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(5)
    await workstation.once()
    manifest = next(workstation.data.glob("*/manifest.json"))
    behind = manifest.read_bytes()
    writer.log_until(9)
    await workstation.once()
    grown = (workstation.training(RUN.name) / "logs" / "train_log.jsonl").read_bytes()
    manifest.write_bytes(behind)
    lose_catalogue(workstation)
    fired(35)
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "host.polled") or workstation.follows(writer)())
        (told,) = events(event_log, "catalogue.rebuilt")
        assert (told["experiments"], told["runs"], told["skipped"]) == (1, 1, [])
        assert (workstation.training(RUN.name) / "logs" / "train_log.jsonl").read_bytes() == grown
        writer.log_until(12)
        await until(workstation.follows(writer))
        assert not events(event_log, "file.conflict")
    workstation.audit()


async def test_what_was_edited_meanwhile_is_not_believed(workstation: Workstation) -> None:
    """A file that is not what its manifest says is not taken over: it stays as it is, and is told."""
    box = workstation.add_box()
    write_convention_example(box.root)
    await workstation.once()
    config = next(workstation.data.glob("*/training_run/config.yaml"))
    config.write_text("mine now\n")
    lose_catalogue(workstation)
    fired(35)
    (result,) = (await workstation.once()).values()
    assert [str(config).endswith(place) for place in result.conflicts] == [True]
    assert config.read_text() == "mine now\n"


@pytest.mark.parametrize("comment", [0, 70_000], ids=["a small configuration", "one that is too large to be read"])
async def test_files_at_home_say_of_a_run_what_its_host_said(workstation: Workstation, comment: int) -> None:
    """By the same readers: what it is known by, its configuration, its end, and its newest step."""
    writer = RunWriter(workstation.add_box().root, RUN)
    writer.start()
    config = writer.directory / "config.yaml"
    config.write_bytes(config.read_bytes() + b"#" + b"x" * comment + b"\n")
    writer.log_until(7)
    await workstation.once()
    ((step, told),) = workstation.catalogue("SELECT step, facts FROM runs")
    facts = json.loads(str(told))
    with DataRoot.open(workstation.data) as root:
        ((rebuilt,), _) = read_back(root)
    (run,) = rebuilt.runs
    assert (run.step, run.config_hash, run.head) == (step, facts["config_hash"], facts["head"])
    assert step == 7
    assert asdict(run.config) == facts["config"]


@pytest.mark.parametrize("damage", ["no database", "cut", "zeros"])
async def test_damaged_catalogue_is_noticed_and_repaired(workstation: Workstation, damage: str) -> None:
    """Garbage, a file cut short and pages of zeros: nothing is published, `verify` says so, and --repair mends it."""
    box = workstation.add_box()
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    RunWriter(box.root, RUN).start()
    evals.write_config()
    for step in range(40):
        evals.evaluate(step)
    await workstation.once()
    before = recorded(workstation)
    path = catalogue_of(workstation)
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    whole = path.read_bytes()
    assert len(whole) > 16 * 4096
    path.write_bytes(
        {"no database": b"gone" * 9999, "cut": whole[:20_000], "zeros": whole[:8192] + bytes(len(whole) - 8192)}[damage]
    )
    for part in path.parent.glob(f"{FILE_NAME}-*"):
        part.unlink()
    refused = asking(workstation, "once")
    assert refused.code == ExitCode.PARTIAL
    assert "harvestd verify --repair" in refused.err
    fired(35)
    told = asking(workstation, "verify", "--json")
    assert told.code == ExitCode.UNKNOWN_NAME
    assert [finding["kind"] for finding in told.document["findings"]] == ["catalogue"]
    mended = asking(workstation, "verify", "--repair")
    assert (mended.code, "was set aside" in mended.err) == (ExitCode.OK, True)
    assert path.with_name(f"{FILE_NAME}.damaged-1").exists()
    assert recorded(workstation) == before
    (result,) = (await workstation.once()).values()
    assert result.files == 0
    workstation.audit()


async def test_newer_catalogue_is_refused(workstation: Workstation) -> None:
    """A catalogue of a newer harvestd is left alone, by the daemon and by --repair, and the way out is told."""
    write_convention_example(workstation.add_box().root)
    await workstation.once()
    with closing(sqlite3.connect(catalogue_of(workstation))) as database, database:
        database.execute("UPDATE alembic_version SET version_num = '9999'")
    for command in ("run", "once", "status", "verify"):
        done = asking(workstation, command)
        assert done.code == ExitCode.CONFIGURATION, command
        assert "upgrade harvestd" in done.err or "newer harvestd" in done.err
    fired(36)
    assert asking(workstation, "verify", "--repair").code == ExitCode.CONFIGURATION
    assert workstation.catalogue("SELECT version_num FROM alembic_version") == [("9999",)]


async def test_what_waits_unfiled_is_still_filed(workstation: Workstation) -> None:
    """Evals whose run was nowhere to be seen keep waiting without their catalogue, and are filed when it appears."""
    box = workstation.add_box()
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate(1)
    await workstation.once()
    before = recorded(workstation)
    assert [str(row[0]).partition("/")[0] for row in before] == ["_unfiled"] * len(before)
    lose_catalogue(workstation)
    fired(35)
    moved = Moved()
    await workstation.once(moved)
    assert recorded(workstation) == before
    RunWriter(box.root, RUN).start()
    await workstation.once(moved)
    assert not [row for row in recorded(workstation) if str(row[0]).startswith("_unfiled")]
    assert sum(moved.bytes.values()) < CHECK
    workstation.audit()


@pytest.mark.parametrize("point", ["rebuild.read", "catalogue.changed", "catalogue.committed"])
async def test_rebuilding_that_is_broken_off_is_done_by_the_next_start(workstation: Workstation, point: str) -> None:
    """Killed while manifests are read back, or before or after they are recorded: nothing is forgotten for it."""
    box = workstation.add_box()
    write_convention_example(box.root)
    evals = evals_of_run(box.root, EvalSpec(RunSpec(timestamp="2025-09-01_00-00-00"), questions=5))
    evals.evaluate(1)
    await workstation.once()
    before, filed = recorded(workstation), workstation.filed()
    manifests = {path: path.read_bytes() for path in workstation.data.glob("*/manifest.json")}
    lose_catalogue(workstation)
    fired(35)
    shutil.rmtree(box.root)
    with workstation.program(point) as process:
        await until(lambda: process.poll() is not None)
    assert process.returncode == -signal.SIGKILL
    assert {path: path.read_bytes() for path in manifests} == manifests
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "host.root_missing"))
        assert len(events(event_log, "catalogue.rebuilt")) == (point != "catalogue.committed")
    assert recorded(workstation) == before
    assert workstation.filed() == filed
    assert not workstation.catalogue("SELECT * FROM meta WHERE key = 'rebuild'")
    workstation.audit()
