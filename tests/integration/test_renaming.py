"""Directories that get another name: by their facts, by a person; and directories that are taken away."""

import json
import shutil
import signal
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest

from harvestd.catalogue.repository import Catalogue
from harvestd.catalogue.state_dir import InconsistentRows
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.planning.records import ExperimentRecord
from harvestd.store.manifest import NAME as MANIFEST
from support.command import harvestd_command
from support.data_root import tree
from support.house import Workstation, is_own
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=8)
PLANNED = "gns_test_2025-08-20_qwen2_5_1_5b_h100_8steps"
MADE = "gns_test_2025-08-20_qwen2_5_1_5b_h100_10steps"


def started(root: Path) -> RunWriter:
    """Write a run that goes on, and an eval of it."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(4)
    evals = evals_of_run(root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate(2)
    return writer


def finished(writer: RunWriter) -> None:
    """Let a run go on for longer than was planned, and finish."""
    writer.log_until(10)
    writer.finish()


def directories(workstation: Workstation) -> list[str]:
    """Return the experiments' directories."""
    return sorted(path.name for path in workstation.data.iterdir() if path.is_dir() and not path.name.startswith("."))


def inodes(directory: Path) -> dict[str, int]:
    """Return the inode of each file that was filed, by its path in the experiment."""
    return {
        str(path.relative_to(directory)): path.stat().st_ino
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and not is_own(str(path.relative_to(directory.parent)))
    }


async def test_name_follows_when_the_run_has_finished(workstation: Workstation) -> None:
    """A run that made more steps than were planned is called so; nothing is fetched again, the old name is an alias."""
    writer = started(workstation.add_box().root)
    async with workstation.running() as event_log:
        await until((workstation.data / PLANNED / "eval_results").exists)
        before = inodes(workstation.data / PLANNED)
        finished(writer)
        await until(lambda: events(event_log, "experiment.renamed"))
        await until(workstation.follows(writer))
    assert directories(workstation) == [MADE]
    after = inodes(workstation.data / MADE)
    assert before.items() <= after.items()
    (renamed,) = events(event_log, "experiment.renamed")
    assert (renamed["old"], renamed["experiment"]) == (PLANNED, MADE)
    manifest = json.loads((workstation.data / MADE / MANIFEST).read_text())
    assert manifest["experiment"]["directory"] == MADE
    assert manifest["aliases"] == [PLANNED]
    workstation.audit()
    (again,) = (await workstation.once()).values()
    assert again.files == 0


async def test_name_follows_in_single_passes(workstation: Workstation) -> None:
    """Who only ever makes passes has it too, and a run that is resumed and finishes again is called anew."""
    writer = started(workstation.add_box().root)
    await workstation.once()
    finished(writer)
    await workstation.once()
    assert directories(workstation) == [MADE]
    writer.resume()
    writer.log_until(12)
    writer.finish()
    await workstation.once()
    (name,) = directories(workstation)
    assert name.endswith("_12steps")
    assert json.loads((workstation.data / name / MANIFEST).read_text())["aliases"] == [PLANNED, MADE]
    workstation.audit()


async def test_name_that_is_taken_by_a_stranger_is_left(workstation: Workstation) -> None:
    """Nothing is renamed onto a directory that stands: it stays where it was, and that is told."""
    writer = started(workstation.add_box().root)
    await workstation.once()
    (workstation.data / MADE).mkdir()
    finished(writer)
    await workstation.once()
    assert directories(workstation) == [MADE, PLANNED]
    assert list((workstation.data / MADE).iterdir()) == []
    (again,) = (await workstation.once()).values()
    assert again.files == 0


@pytest.mark.parametrize("running", [True, False])
async def test_directory_that_a_person_moved_is_followed(workstation: Workstation, *, running: bool) -> None:
    """It is known by its manifest: what comes later goes there, nothing comes twice, and facts don't rename it."""
    writer = started(workstation.add_box().root)
    await workstation.once()
    moved = workstation.data / "my best run"
    before = inodes(workstation.data / PLANNED)
    if running:
        async with workstation.running() as event_log:
            await until(workstation.follows(writer))
            (workstation.data / PLANNED).rename(moved)
            finished(writer)
            log = moved / "training_run" / "logs" / "train_log.jsonl"
            await until(lambda: log.exists() and log.read_bytes() == writer.train_log.read_bytes())
            await until((moved / "training_run" / "training_state" / "step_latest").is_symlink)
        assert [str(each["old"]) for each in events(event_log, "experiment.renamed")] == [PLANNED]
    else:
        (workstation.data / PLANNED).rename(moved)
        finished(writer)
        await workstation.once()
    assert directories(workstation) == ["my best run"]
    assert before.items() <= inodes(moved).items()
    workstation.audit()
    await workstation.once()
    assert directories(workstation) == ["my best run"]


async def test_directory_that_was_taken_away_does_not_come_back(workstation: Workstation) -> None:
    """Nothing of it is fetched behind a person's back, by any pass; put back, it is followed again."""
    writer = started(workstation.add_box().root)
    await workstation.once()
    kept = workstation.data.parent / "elsewhere"
    shutil.move(workstation.data / PLANNED, kept)
    writer.log_until(6)
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "experiment.gone"))
        writer.log_until(7)
        await until(lambda: len(events(event_log, "host.connected")) == 1)
    await workstation.once()
    assert directories(workstation) == []
    left = workstation.catalogue("SELECT DISTINCT reason FROM left_out WHERE experiment IS NOT NULL")
    assert ("its experiment's directory was taken away here",) in left
    workstation.audit()
    before = inodes(kept)
    shutil.move(kept, workstation.data / PLANNED)
    finished(writer)
    await workstation.once()
    await workstation.once()
    assert directories(workstation) == [MADE]
    assert before.items() <= inodes(workstation.data / MADE).items()
    log = workstation.data / MADE / "training_run" / "logs" / "train_log.jsonl"
    assert log.read_bytes() == writer.train_log.read_bytes()
    workstation.audit()


async def test_copy_of_a_directory_is_left_alone(workstation: Workstation) -> None:
    """A copy that a person made beside it has the same id in its manifest: the one on record goes on."""
    writer = started(workstation.add_box().root)
    await workstation.once()
    shutil.copytree(workstation.data / PLANNED, workstation.data / "a copy", symlinks=True)
    before = tree(workstation.data / "a copy")
    finished(writer)
    await workstation.once()
    assert directories(workstation) == ["a copy", MADE]
    assert tree(workstation.data / "a copy") == before


async def test_directory_that_was_taken_away_is_fetched_again_when_asked_for(workstation: Workstation) -> None:
    """An empty directory of its name, made by a person, says that they want it: all of it comes again."""
    started(workstation.add_box().root)
    await workstation.once()
    before = {path for path in workstation.filed() if not path.endswith(MANIFEST)}
    shutil.rmtree(workstation.data / PLANNED)
    await workstation.once()
    assert directories(workstation) == []
    (workstation.data / PLANNED).mkdir()
    await workstation.once()
    assert {path for path in workstation.filed() if not path.endswith(MANIFEST)} == before
    workstation.audit()


OTHER = RunSpec(timestamp="2025-08-21_09-12-05", total_steps=8)
SECOND = "gns_test_2025-08-21_qwen2_5_1_5b_h100_8steps"


async def two_runs(workstation: Workstation) -> tuple[RunWriter, RunWriter]:
    """Bring two runs home that go on."""
    root = workstation.add_box().root
    writers = RunWriter(root, RUN), RunWriter(root, OTHER)
    for writer in writers:
        writer.start()
        writer.log_until(4)
    await workstation.once()
    assert directories(workstation) == [PLANNED, SECOND]
    return writers


def log_in(workstation: Workstation, directory: str) -> bytes:
    """Return the log that is in an experiment's directory."""
    path = workstation.data / directory / "training_run" / "logs" / "train_log.jsonl"
    return path.read_bytes() if path.exists() else b""


async def test_directory_gets_the_name_of_one_that_was_deleted(workstation: Workstation) -> None:
    """The junk run is deleted and the good one called so: the daemon follows it, now and at each start."""
    good, junk = await two_runs(workstation)
    async with workstation.running() as event_log:
        shutil.rmtree(workstation.data / SECOND)
        await until(lambda: events(event_log, "experiment.gone"))
        (workstation.data / PLANNED).rename(workstation.data / SECOND)
        await until(lambda: events(event_log, "experiment.renamed"))
        for writer in (good, junk):
            writer.log_until(6)
        await until(lambda: log_in(workstation, SECOND) == good.train_log.read_bytes())
    good.log_until(7)
    for _ in range(2):
        await workstation.once()
        assert directories(workstation) == [SECOND]
        assert log_in(workstation, SECOND) == good.train_log.read_bytes()
    workstation.audit()


@pytest.mark.parametrize("running", [True, False])
async def test_directories_change_names(workstation: Workstation, *, running: bool) -> None:
    """One gets the name of another, which gets a new one, or that of the first: each goes on where it is now."""
    first, second = await two_runs(workstation)
    data = workstation.data

    def move_both() -> None:
        (data / SECOND).rename(data / "put by")
        (data / PLANNED).rename(data / SECOND)

    def swap() -> None:
        (data / SECOND).rename(data.parent / "between")
        (data / "put by").rename(data / SECOND)
        (data.parent / "between").rename(data / "put by")

    where = (SECOND, "put by")
    if running:
        async with workstation.running() as event_log:
            move_both()
            await until(lambda: len(events(event_log, "experiment.renamed")) == 2)
            swap()
            await until(lambda: len(events(event_log, "experiment.renamed")) == 4)
            for writer in (first, second):
                writer.log_until(6)
            await until(lambda: log_in(workstation, "put by") == first.train_log.read_bytes())
            await until(lambda: log_in(workstation, SECOND) == second.train_log.read_bytes())
            assert not events(event_log, "experiment.gone")
        where = ("put by", SECOND)
    else:
        move_both()
    for writer in (first, second):
        writer.log_until(7)
    (result,) = (await workstation.once()).values()
    assert not result.conflicts
    assert [log_in(workstation, each) for each in where] == [each.train_log.read_bytes() for each in (first, second)]
    assert directories(workstation) == [SECOND, "put by"]
    workstation.audit()


async def test_directory_gets_a_name_that_is_no_utf_8(workstation: Workstation) -> None:
    """Any name that the file system takes is followed, on record and in commands too."""
    writer = started(workstation.add_box().root)
    await workstation.once()
    odd = "r\udce9sultats"
    async with workstation.running() as event_log:
        (workstation.data / PLANNED).rename(workstation.data / odd)
        await until(lambda: events(event_log, "experiment.renamed"))
        writer.log_until(6)
        await until(lambda: log_in(workstation, odd) == writer.train_log.read_bytes())
    writer.log_until(7)
    await workstation.once()
    assert directories(workstation) == [odd]
    assert log_in(workstation, odd) == writer.train_log.read_bytes()
    workstation.audit()
    for command in (["experiments"], ["status"], ["show", RUN.name], ["experiments", "--json"], ["status", "--json"]):
        done = harvestd_command("-c", workstation.config, *command)
        assert "bug" not in done.err, (command, done.err)
        assert "Traceback" not in done.err, (command, done.err)


async def test_directory_gets_a_name_that_is_reserved(workstation: Workstation) -> None:
    """One that can't be followed was taken away; as soon as it has a name that can be used it is followed again."""
    writer = started(workstation.add_box().root)
    await workstation.once()
    reserved = workstation.data / ".Harvestd"
    async with workstation.running() as event_log:
        (workstation.data / PLANNED).rename(reserved)
        await until(lambda: events(event_log, "experiment.gone"))
        reserved.rename(workstation.data / "mine")
        await until(lambda: events(event_log, "experiment.renamed"))
        writer.log_until(6)
        await until(lambda: log_in(workstation, "mine") == writer.train_log.read_bytes())
    workstation.audit()


async def test_directory_gets_the_name_of_one_of_which_nothing_is_here(workstation: Workstation) -> None:
    """An experiment without a file has a name on record and no directory: a person may give the name to another one."""
    first, second = await two_runs(workstation)
    # As after a crash between the discovery and the first file.
    shutil.rmtree(workstation.data / SECOND)
    with closing(sqlite3.connect(workstation.state / "catalogue.sqlite")) as database, database:
        ((identifier,),) = database.execute("SELECT id FROM experiments WHERE directory = ?", (SECOND,))
        database.execute("DELETE FROM files WHERE experiment_id = ?", (identifier,))
        database.execute("DELETE FROM links WHERE experiment_id = ?", (identifier,))
    (workstation.data / PLANNED).rename(workstation.data / SECOND)
    for writer in (first, second):
        writer.log_until(6)
    (result,) = (await workstation.once()).values()
    assert not result.conflicts
    assert log_in(workstation, SECOND) == first.train_log.read_bytes()
    (aside,) = set(directories(workstation)) - {SECOND}
    assert log_in(workstation, aside) == second.train_log.read_bytes()
    workstation.audit()


async def test_killed_while_a_directory_is_noted_as_gone(workstation: Workstation) -> None:
    """However much of it is on record then: what a person took away does not come back."""
    started(workstation.add_box().root)
    await workstation.once()
    shutil.rmtree(workstation.data / PLANNED)
    workstation.settings()
    with workstation.program("catalogue.committed") as process:
        await until(lambda: process.poll() is not None)
    assert process.returncode == -signal.SIGKILL
    await workstation.once()
    assert directories(workstation) == []
    assert workstation.catalogue("SELECT gone FROM experiments") == [(1,)]
    workstation.audit()


async def test_manifest_of_a_newer_harvestd_is_never_replaced(workstation: Workstation) -> None:
    """A directory with a manifest that can't be read yet is no place for a run that is found: nothing in it changes."""
    started(workstation.add_box().root)
    await workstation.once()
    for part in workstation.state.glob("catalogue.sqlite*"):
        part.unlink()
    manifest = workstation.data / PLANNED / MANIFEST
    manifest.write_text(manifest.read_text().replace('"format": 1', '"format": 2', 1))
    before = tree(workstation.data / PLANNED)
    for _ in range(2):
        await workstation.once()
        assert tree(workstation.data / PLANNED) == before
    assert len(directories(workstation)) == 2


async def test_directory_that_the_catalogue_refuses_to_follow(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A contradiction about one experiment is told and concerns no other one, nor any start."""
    _, second = await two_runs(workstation)

    async def refused(_self: Catalogue, _after: ExperimentRecord) -> None:
        raise InconsistentRows("UNIQUE constraint failed")

    monkeypatch.setattr(Catalogue, "move_experiment", refused)
    (workstation.data / PLANNED).rename(workstation.data / "mine")
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "file.conflict", experiment=PLANNED))
        second.log_until(6)
        await until(lambda: log_in(workstation, SECOND) == second.train_log.read_bytes())
