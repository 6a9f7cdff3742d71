"""A verdict on a real box that was asked in earnest: what lies beside the trees is named with what would be lost."""

import subprocess
from pathlib import Path

import pytest

from harvestd.convention.kinds import LossKind
from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.house import Workstation
from support.judging import comes_true, watching

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec(total_steps=4)
SOON = {"idle_for": "300ms"}


def beside(home: Path) -> None:
    """Write what nobody fetches: a note, and a checkout that was never committed."""
    (home / "notes.md").write_bytes(b"nowhere else")
    (home / "code").mkdir()
    subprocess.run(["git", "init", "-q"], cwd=home / "code", check=True)
    (home / "code/train.py").write_bytes(b"new")


async def test_what_lies_beside_the_trees_is_a_loss(workstation: Workstation) -> None:
    """The box answers every question, and its files and its work in git are among what would be lost."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(4)
    writer.finish()
    beside(box.root)
    async with watching(workstation.settings(verdict=SOON)) as watch:
        await comes_true(lambda: list(watch.context.states.last_scans()))
        verdict = await watch.asked()
    assert not verdict.is_safe
    # The box is this machine, whose /tmp may hold more than is looked through.
    assert not any("checkouts" in reason.detail for reason in verdict.reasons)
    losses = {loss.kind: loss for loss in verdict.losses}
    assert str(box.root / "code") in losses[LossKind.UNCOMMITTED_WORK].what
    assert losses[LossKind.OUTSIDE_FILES].entries >= 1
    assert str(box.root / "notes.md") in losses[LossKind.OUTSIDE_FILES].what
