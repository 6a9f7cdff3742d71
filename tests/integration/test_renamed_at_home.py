"""Directories inside an experiment that a person renames at home: nothing of them comes over the link again."""

import os
from pathlib import Path

import anyio.to_thread
import pytest

from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.errors import ExitCode
from support.command import Ended, harvestd_command
from support.house import Workstation
from support.large_checkpoints import MIB, RUN, write_large_checkpoint
from support.relay import relayed

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

SIZE = 12 * MIB


def written(workstation: Workstation) -> RunWriter:
    """Write a finished run with a large checkpoint, and an eval of it."""
    root = workstation.boxes["gpu-a"].root
    writer = write_large_checkpoint(root, SIZE, names=("optimizer.pt",))
    evals = evals_of_run(root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate(2)
    return writer


def parts(workstation: Workstation) -> list[Path]:
    """Return the directories of the experiment that tests rename."""
    (experiment,) = (path.parent for path in workstation.data.glob("*/training_run"))
    return [experiment / "eval_results", experiment / "training_run" / "training_state" / "step_final"]


def inside(directory: Path) -> dict[str, bytes]:
    """Return the files below a directory."""
    return {str(path.relative_to(directory)): path.read_bytes() for path in directory.rglob("*") if path.is_file()}


async def repaired(workstation: Workstation) -> Ended:
    """Run `harvestd verify --repair`."""
    return await anyio.to_thread.run_sync(
        lambda: harvestd_command("verify", "-c", workstation.config, "--repair", "--json")
    )


@pytest.mark.parametrize("is_edited", [False, True], ids=["renamed", "edited as well"])
async def test_what_a_person_renamed_is_copied_back_by_a_repair_alone(
    workstation: Workstation, *, is_edited: bool
) -> None:
    """A pass brings nothing of it; a repair brings over the link only what is nowhere here any more."""
    box = workstation.add_box()
    written(workstation)
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        await workstation.once()
        before = [inside(directory) for directory in parts(workstation)]
        moved = [directory.rename(directory.with_name("mine")) for directory in parts(workstation)]
        (result,) = (await workstation.once()).values()
        assert (result.files, result.bytes) == (0, 0)
        assert not any(directory.exists() for directory in parts(workstation))
        if is_edited:
            content = bytearray((moved[1] / "optimizer.pt").read_bytes())
            content[:16] = os.urandom(16)
            (moved[1] / "optimizer.pt").write_bytes(content)
        mine = [inside(directory) for directory in moved]
        ended = await repaired(workstation)
        assert ended.code == ExitCode.OK, ended.out + ended.err
        received = relay.received
        (result,) = (await workstation.once()).values()
        assert result.files == is_edited
        assert (relay.received - received > SIZE) == is_edited
    assert [inside(directory) for directory in parts(workstation)] == before
    assert [inside(directory) for directory in moved] == mine
    workstation.audit()
