"""A host key is trusted at first sight once: of two connections at the same time, too."""

import asyncssh
import pytest

from harvestd.harvest.context import Context
from harvestd.harvest.fleet.connections import Pins
from harvestd.harvest.metrics import NullListener
from harvestd.harvest.startup import open_context
from harvestd.inventory.host import Host
from harvestd.remote.ssh.errors import HostKeyChanged
from support.house import Workstation

pytestmark = pytest.mark.anyio

JUMP = "jump:bastion:22"
HOSTS = [Host(f"static:{name}", name, "192.0.2.1", "static") for name in ("gpu-a", "gpu-b")]


def _key() -> str:
    public = asyncssh.generate_private_key("ssh-ed25519").export_public_key("openssh").decode()
    return " ".join(public.split()[:2])


async def _trusts_one(context: Context) -> None:
    one, other = (Pins(host, context) for host in HOSTS)
    first, second = _key(), _key()
    assert await one.get(JUMP) is None
    assert await other.get(JUMP) is None
    await one.put(JUMP, first)
    assert await other.get(JUMP) == first
    await other.put(JUMP, first)
    with pytest.raises(HostKeyChanged, match="bastion"):
        await other.put(JUMP, second)
    assert await one.get(JUMP) == first


async def test_before_the_catalogue_is_open(workstation: Workstation) -> None:
    """What was pinned while it is being opened counts for the next connection."""
    await _trusts_one(Context.of(workstation.settings(), NullListener()))


async def test_once_the_catalogue_is_open(workstation: Workstation) -> None:
    """Two first connections that saw different keys are not both let through."""
    async with open_context(workstation.settings(), NullListener()) as (context, _):
        await context.catalogue_opened.wait()
        await _trusts_one(context)
