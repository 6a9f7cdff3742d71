"""What was left behind on a host stays on record, whatever becomes of the host."""

import json
import shutil
from pathlib import Path

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.command import harvestd_command
from support.house import Workstation

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=8)
OTHER = RunSpec(timestamp="2025-08-21_09-12-05", total_steps=8)


def with_checkpoint(root: Path, run: RunSpec) -> RunWriter:
    """Write a run with a checkpoint that is not wanted."""
    writer = RunWriter(root, run)
    writer.start()
    writer.log_until(4)
    writer.checkpoint(4)
    writer.log_until(5)
    return writer


async def begun(workstation: Workstation) -> RunWriter:
    """Bring a run home, and leave one of its checkpoints."""
    writer = with_checkpoint(workstation.add_box().root, RUN)
    await workstation.once()
    assert left_behind(workstation) == [("step_4", False)]
    return writer


def left_behind(workstation: Workstation) -> list[tuple[str, bool]]:
    """Return the checkpoints that the manifest of the run names as left behind, and whether they are gone."""
    found = []
    for path in workstation.data.glob("*/manifest.json"):
        manifest = json.loads(path.read_text())
        if [run["name"] for run in manifest["runs"]] == [RUN.name]:
            found += [
                (each["path"].rpartition("/")[2], "gone_at" in each)
                for each in manifest["left_out"]
                if each["path"].endswith("/step_4")
            ]
    on_record = workstation.catalogue("SELECT place FROM left_out WHERE place LIKE '%/step_4'")
    assert sum(f"/{RUN.name}/" in str(place) for (place,) in on_record) == len(found)
    return found


async def test_root_that_is_not_there_for_a_moment(workstation: Workstation) -> None:
    """A scan that does not see the tree says nothing of what is in it."""
    await begun(workstation)
    root = workstation.boxes["gpu-a"].root
    root.rename(root.with_name("away"))
    await workstation.once()
    assert left_behind(workstation) == [("step_4", False)]
    (root / "training_runs").mkdir(parents=True)
    await workstation.once()
    assert left_behind(workstation) == [("step_4", False)]
    shutil.rmtree(root)
    root.with_name("away").rename(root)
    await workstation.once()
    assert left_behind(workstation) == [("step_4", False)]


async def test_checkpoint_that_is_deleted_on_the_box(workstation: Workstation) -> None:
    """It stays on record with its size, marked, in the manifest and in answers, and without the catalogue too."""
    writer = await begun(workstation)
    shutil.rmtree(writer.directory / "training_state" / "step_4")
    for _ in range(2):
        await workstation.once()
        assert left_behind(workstation) == [("step_4", True)]
    shown = harvestd_command("-c", workstation.config, "show", RUN.name, "--json").document
    (line,) = [each for each in shown["left_out"] if each["from"].endswith("/step_4")]
    assert line["gone_at"] is not None
    assert line["bytes"] > 0
    assert "gone from the host" in harvestd_command("-c", workstation.config, "show", RUN.name).out
    for part in workstation.state.glob("catalogue.sqlite*"):
        part.unlink()
    await workstation.once()
    assert left_behind(workstation) == [("step_4", True)]


async def test_name_that_the_next_rented_box_gets(workstation: Workstation) -> None:
    """What was left behind on the one before stays on record, although the new one shows other runs."""
    writer = await begun(workstation)
    shutil.rmtree(writer.directory)
    with_checkpoint(workstation.boxes["gpu-a"].root, OTHER)
    await workstation.once()
    assert left_behind(workstation) == [("step_4", True)]
