"""The daemon with a fleet behind one bastion: few log-ins there, and all that is wanted comes home."""

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.house import Workstation
from support.large_checkpoints import is_home, write_large_checkpoint
from support.openssh import OpenSSHFactory
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

_BOXES = 5
_BULK = 4
"""Connections to a bastion for large files, at most."""


async def test_a_fleet_behind_a_bastion_comes_home(workstation: Workstation, openssh_factory: OpenSSHFactory) -> None:
    """All boxes share a connection to the bastion, and their large files a few more; a lost bastion is made up for."""
    gate = openssh_factory("gate")
    first = workstation.add_box("gpu-0")
    checkpoint = write_large_checkpoint(first.root)
    for number in range(1, _BOXES):
        box = workstation.add_box(f"gpu-{number}")
        RunWriter(box.root, RunSpec(timestamp=f"2025-08-{20 + number}_03-31-43")).start()
    jump = f"{gate.user}@127.0.0.1:{gate.port}"
    ssh = {"proxy_jump": jump, "identity_files": [str(gate.client_key)], "connect_timeout": "15s"}
    async with workstation.running(ssh=ssh) as event_log:
        await until(lambda: len(events(event_log, "host.connected")) == _BOXES, seconds=60)
        await until(is_home(workstation, checkpoint), seconds=60)
        assert 2 <= gate.log_text().count("Accepted publickey") <= 1 + _BULK
        gate.restart()
        late = RunWriter(first.root, RunSpec(timestamp="2025-08-27_03-31-43"))
        late.start()
        await until(workstation.stands(late.run.name, "config.yaml"), seconds=60)
    workstation.audit()
