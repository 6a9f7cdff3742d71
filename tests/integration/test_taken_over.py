"""A box dies in the middle of a large transfer while another one shows the same file system, late: that one goes on."""

import json

import anyio
import anyio.to_thread
import pytest

from support.house import Workstation
from support.large_checkpoints import MIB, is_home, journalled, staging_is_empty, write_large_checkpoint
from support.relay import Relay, relayed
from support.shared_trees import late_view
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

SIZE = 16 * MIB


def name_in_targets(workstation: Workstation, relays: dict[str, Relay]) -> dict[str, dict[str, object]]:
    """Name the boxes in a file of targets that says what they show; gives what the configuration says of it."""
    (server, *_) = (box.server for box in workstation.boxes.values())
    (root,) = {box.root for box in workstation.boxes.values()}
    groups = [
        {"targets": [f"127.0.0.1:{relay.port}"], "labels": {"name": name, "storage": "fs", "hardware": "h100"}}
        for name, relay in relays.items()
    ]
    workstation.config.with_name("targets.json").write_text(json.dumps(groups))
    workstation.boxes.clear()
    return {
        "ssh": {"user": server.user, "identity_files": [str(server.client_key)]},
        "remote": {"roots": [str(root)]},
        "targets": {"files": ["targets.json"]},
    }


@pytest.mark.parametrize("declared", [True, False], ids=["declared", "found out"])
async def test_large_transfer_goes_on_from_the_other_box(workstation: Workstation, *, declared: bool) -> None:
    """What is here of a checkpoint when its box dies is not sent again by the box that shows it, too."""
    root = workstation.data.with_name("shared")
    root.mkdir()
    first = workstation.add_box("gpu-a", root=root).server
    second = workstation.add_box("gpu-b", root=root, within=late_view(root)).server
    await anyio.to_thread.run_sync(second.stop)
    writer = write_large_checkpoint(root, SIZE)
    async with relayed(first.port) as one, relayed(second.port) as other:
        one.rate = 4 * MIB
        relays = {"gpu-a": one, "gpu-b": other}
        sections: dict[str, dict[str, object]] = {}
        if declared:
            sections = name_in_targets(workstation, relays)
        else:
            for name, relay in relays.items():
                workstation.reach(name, relay.port)
        async with workstation.running(**sections) as event_log:
            await until(lambda: journalled(workstation) >= 8 * MIB, 30)
            # It must not come to its end before its box dies, however long that takes on a busy machine.
            one.rate = MIB // 16
            await anyio.to_thread.run_sync(second.start)
            await until(lambda: events(event_log, "host.connected", host="gpu-b"), 30)
            assert f" {root} fuse" in await anyio.Path(f"/proc/{second.pid}/mounts").read_text()
            await anyio.to_thread.run_sync(first.kill)
            await until(lambda: events(event_log, "host.lost", host="gpu-a"), 30)
            kept = journalled(workstation)
            assert kept >= 8 * MIB
            await until(is_home(workstation, writer), 60)
            await until(lambda: staging_is_empty(workstation), 30)
            assert events(event_log, "checkpoint.completed", host="gpu-b")
            assert not events(event_log, "file.conflict")
        assert other.received <= 3 * SIZE - kept + 2 * MIB
    assert len(workstation.catalogue("SELECT * FROM experiments")) == 1
    workstation.audit()
