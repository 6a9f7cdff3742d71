"""Connections that are cut, or get new keys, in the middle of what matters: the same bytes come home, once."""

import secrets

import anyio
import anyio.to_thread
import pytest

from harvestd.demo.writers import RunWriter
from support.faults import fired
from support.house import Workstation
from support.large_checkpoints import (
    LARGE,
    MIB,
    RUN,
    is_absent,
    is_home,
    staged,
    staging_is_empty,
    write_large_checkpoint,
)
from support.relay import Relay, relayed
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

SIZE = 16 * MIB
GATHERED = 2 * MIB
"""Bytes that harvestd may hold back until the last one came: it writes by buffers."""
EARLY = 40_000
"""Bytes: a log-in and some of a look at thousands of files, but not all."""


@pytest.mark.parametrize("share", [0.01, 0.5, 1.0], ids=["one percent", "half", "last byte"])
async def test_cut_transfer_goes_on(workstation: Workstation, share: float) -> None:
    """Wherever a file's connection is cut nothing of it is seen, and what came before is not sent again."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root, SIZE, LARGE[:1])
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        async with workstation.running(limits={"bulk_connections_per_host": 1}) as event_log:
            await cut(relay, share, workstation)
            fired(1)
            assert is_absent(workstation)
            assert not events(event_log, "checkpoint.completed")
            await until(lambda: relay.open == 0)
            relay.received = 0
            await until(is_home(workstation, writer))
            assert relay.received <= SIZE * (1 - share) + 3 * MIB
            await until(lambda: staging_is_empty(workstation))
    workstation.audit()


async def cut(relay: Relay, share: float, workstation: Workstation) -> None:
    """Cut all connections when this share of the large file is in staging: what a socket still holds is lost."""
    if share < 1:
        relay.rate = SIZE / 4
        await until(lambda: staged(workstation) >= SIZE * share)
    else:
        relay.keep_back = SIZE - MIB
        await until(lambda: relay.keeps_last(0.3) and staged(workstation) >= SIZE - GATHERED)
    relay.cut()
    relay.rate = relay.keep_back = None


async def test_keys_exchanged_anew_within_a_file(workstation: Workstation) -> None:
    """A server that wants new keys every two megabytes gets them, and the file comes whole in one go."""
    box = workstation.add_box(extra_config=["RekeyLimit 2M", "LogLevel DEBUG"])
    writer = write_large_checkpoint(box.root, SIZE, LARGE[:1])
    (result,) = (await workstation.once()).values()
    log = box.server.log_text()
    assert log.count("SSH2_MSG_NEWKEYS sent") >= log.count("Accepted publickey") + SIZE // (3 * MIB)
    fired(12)
    assert not result.failed
    assert result.bytes < SIZE + MIB
    assert is_home(workstation, writer)()
    workstation.audit()


async def test_sshd_dies_in_a_look(workstation: Workstation) -> None:
    """A look that breaks off says nothing: no file is taken for gone, no run for ended, nothing for drained."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    await workstation.once()
    before = workstation.filed()
    writer.log_until(4)
    for name in range(4000):
        (writer.train_log.parent / secrets.token_hex(16)).write_bytes(b"%d" % name)
    async with relayed(box.port) as relay:
        workstation.reach("gpu-a", relay.port)
        relay.cut_at = EARLY
        async with workstation.running() as event_log:
            await until(lambda: relay.cuts)
            await anyio.to_thread.run_sync(box.server.kill)
            await until(lambda: events(event_log, "host.lost"))
            assert not [one for one in event_log if one["event"] == "host.polled"]
            fired(6)
            assert workstation.filed() == before
            relay.received = 0
            await anyio.to_thread.run_sync(box.server.start)
            await until(workstation.follows(writer))
            assert relay.received > EARLY, "the look was not done when it was cut"
    unwanted = {"host.drained", "host.root_missing", "run.finished", "file.conflict", "file.rejected"}
    assert unwanted.isdisjoint(one["event"] for one in event_log)
    workstation.audit()
