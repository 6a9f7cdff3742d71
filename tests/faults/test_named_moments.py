"""`kill -9` at every named moment of a daemon at work: the next start converges without hands, and nothing is lost."""

import os
import signal
from pathlib import Path

import anyio
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.failpoints import POINTS
from support.data_root import tree
from support.faults import fired
from support.house import Workstation
from support.waiting import DEADLINE, until
from support.wanted import missing, temporaries_left

pytestmark = [pytest.mark.anyio, pytest.mark.openssh, pytest.mark.slow]

MIB = 1024 * 1024
RUN = RunSpec(total_steps=8)
LATER = RunSpec(timestamp="2025-08-21_09-12-05", total_steps=8)
"""A run of which an eval is there before it is."""
ROLLING = {"checkpoint": "final+latest"}
_REWRITTEN = ("analysis/configured.json", "manifest.json", "README.md", "index.md")
"""What harvestd writes of its own, anew whenever something changed."""


def first(root: Path) -> RunWriter:
    """Write what is at home before the daemon is killed: a run that goes on, an eval of it, and one of no run yet."""
    writer = RunWriter(root, RUN)
    writer.start()
    writer.log_until(4)
    writer.checkpoint(4)
    for run in (RUN, LATER):
        evals = evals_of_run(root, EvalSpec(run, questions=5))
        if run is RUN:
            evals.write_config()
        evals.evaluate(2)
    return writer


def second(root: Path, writer: RunWriter) -> None:
    """Do all at once that leads through a moment: growth, new content, a new start, moves, a large file, a new name.

    Its large file is of the checkpoint that supersedes the one that was there before.
    """
    evals_of_run(root, EvalSpec(RUN, questions=7)).evaluate(2)
    (writer.directory / "logs" / "train_log.jsonl").write_bytes(b'{"step": 1, "restarted": true}\n')
    writer.log_until(10)
    later = RunWriter(root, LATER)
    later.start()
    later.log_until(3)
    directory = writer.begin_checkpoint("final")
    (directory / "optimizer.pt").write_bytes(os.urandom(12 * MIB))
    writer.seal_checkpoint("final")


def contents(data: Path) -> list[bytes]:
    """Return the content of every result below a data root, kept versions too; but for the checkpoint that may go."""
    found = {**tree(data), **{f"kept {path}": kept for path, kept in tree(data / ".harvestd" / "versions").items()}}
    stays = {path: each for path, each in found.items() if "/step_4/" not in path}
    return [each for path, each in stays.items() if isinstance(each, bytes) and not path.endswith(_REWRITTEN)]


def lost(before: set[bytes], data: Path) -> list[bytes]:
    """Return what was there before and is neither there now nor the beginning of what is."""
    now = contents(data)
    return [content for content in before if not any(each.startswith(content) for each in now)]


async def killed_at(workstation: Workstation, point: str, turn: int = 1) -> None:
    """Run the daemon until it dies at a moment; fails where it never gets there."""
    with workstation.program(point, str(turn)) as process:
        await until(lambda: process.poll() is not None, seconds=DEADLINE)
    assert process.returncode == -signal.SIGKILL
    fired(31)


@pytest.mark.parametrize("point", [point for point in POINTS if not point.startswith("rebuild.")])
async def test_daemon_killed_at_a_moment_converges(workstation: Workstation, point: str) -> None:
    """Killed at the moment, with all kinds of work under way: one more pass, and home is what the box is."""
    box = workstation.add_box()
    writer = await anyio.to_thread.run_sync(first, box.root)
    await workstation.once(select=ROLLING)
    before = set(contents(workstation.data))
    await anyio.to_thread.run_sync(second, box.root, writer)
    workstation.settings(select=ROLLING)
    if point.startswith("recovery."):
        # There is something to settle only where another process died before.
        await killed_at(workstation, "publish.renamed")
    if point == "growing.kept":
        # There is something to cut only where another process died before.
        await killed_at(workstation, "growing.appended")
    await killed_at(workstation, point)
    assert lost(before, workstation.data) == []
    (result,) = (await workstation.once(select=ROLLING)).values()
    assert not result.failed
    assert not result.conflicts
    assert missing(workstation) == []
    assert temporaries_left(workstation) == []
    assert lost(before, workstation.data) == []
    workstation.audit()
    (again,) = (await workstation.once(select=ROLLING)).values()
    assert again.files == 0
