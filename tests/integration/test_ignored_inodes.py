"""A host whose file system gives its files other inodes at any time, as FUSE does: people are told once."""

import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.command import harvestd_command
from support.house import Workstation
from support.shared_trees import late_view
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def test_ignored_inodes_are_told_once_and_by_doctor(workstation: Workstation) -> None:
    """The daemon names each tree and its file system once; `doctor` says what decides there."""
    root = workstation.config.parent / "root"
    root.mkdir()
    box = workstation.add_box(root=root, within=late_view(root))
    writer = RunWriter(box.root, RunSpec())
    writer.start()
    writer.log_until(2)
    async with workstation.running() as event_log:
        for count in (1, 2, 3):
            await until(lambda: len(events(event_log, "file.downloaded", kind="train_log")) >= count)  # noqa: B023
            writer.log_step(2 + count)
    (reported,) = events(event_log, "host.inodes_ignored", host="gpu-a", path=root / "training_runs")
    assert str(reported["filesystem"]).startswith("fuse")
    ended = await anyio.to_thread.run_sync(lambda: harvestd_command("-c", workstation.config, "doctor", "--json"))
    assert "name, size and modification time" in ended.out
