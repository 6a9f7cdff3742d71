"""Hosts that leave the inventory while no daemon runs."""

import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.command import harvestd_command
from support.house import Workstation
from support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def test_a_host_that_left_while_no_daemon_ran_is_gone(workstation: Workstation) -> None:
    """The next daemon records it as gone, for commands without a daemon too, and no other host."""
    for number, name in enumerate(("gpu-a", "gpu-b")):
        writer = RunWriter(workstation.add_box(name).root, RunSpec(timestamp=f"2025-08-20_03-31-4{number}"))
        writer.start()
        writer.log_until(2)
    await workstation.once()
    del workstation.boxes["gpu-b"]
    async with workstation.running():
        await until(lambda: workstation.catalogue("SELECT name FROM hosts WHERE state = 'gone'") == [("gpu-b",)])
    ended = await anyio.to_thread.run_sync(lambda: harvestd_command("-c", workstation.config, "hosts", "--json"))
    assert {host["name"]: host["state"] == "gone" for host in ended.document["hosts"]} == {
        "gpu-a": False,
        "gpu-b": True,
    }
