"""Directories that get another name: by their facts, by a person; and directories that are taken away."""

import json
import shutil
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.store.manifest_file import NAME as MANIFEST
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
    """Give the experiments' directories."""
    return sorted(path.name for path in workstation.data.iterdir() if not path.name.startswith("."))


def inodes(directory: Path) -> dict[str, int]:
    """Give the inode of each file that was filed, by its path in the experiment."""
    return {
        str(path.relative_to(directory)): path.stat().st_ino
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and not is_own(str(path.relative_to(directory.parent)))
    }


async def test_name_follows_when_the_run_has_finished(workstation: Workstation) -> None:
    """A run that made more steps than were planned is called so; nothing is fetched again, the old name is an alias."""
    writer = started(workstation.add_box().root)
    async with workstation.running() as said:
        await until((workstation.data / PLANNED / "eval_results").exists)
        before = inodes(workstation.data / PLANNED)
        finished(writer)
        await until(lambda: events(said, "experiment.renamed"))
        await until(workstation.follows(writer))
    assert directories(workstation) == [MADE]
    after = inodes(workstation.data / MADE)
    assert before.items() <= after.items()
    (renamed,) = events(said, "experiment.renamed")
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
        async with workstation.running() as said:
            await until(workstation.follows(writer))
            (workstation.data / PLANNED).rename(moved)
            finished(writer)
            log = moved / "training_run" / "logs" / "train_log.jsonl"
            await until(lambda: log.exists() and log.read_bytes() == writer.train_log.read_bytes())
            await until((moved / "training_run" / "training_state" / "step_latest").is_symlink)
        assert [str(each["old"]) for each in events(said, "experiment.renamed")] == [PLANNED]
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
    async with workstation.running() as said:
        await until(lambda: events(said, "experiment.gone"))
        writer.log_until(7)
        await until(lambda: len(events(said, "host.connected")) == 1)
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
