"""A config.yaml that explodes when it is parsed, or is as large as a checkpoint: read as bytes, never believed."""

import os

import pytest
import structlog.testing

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from support.faults import fired
from support.house import Workstation
from support.lying import settled
from support.memory import bounded
from support.surroundings import untouched
from support.waiting import events

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
OTHER = RunSpec(timestamp="2025-08-21_00-00-00")
MIB = 1024 * 1024
LAUGHS = b"a0: &a0 [lol, lol]\n" + b"".join(
    b"a%d: &a%d [%b]\n" % (n, n, b", ".join([b"*a%d" % (n - 1)] * 9)) for n in range(1, 30)
)
BOMBS = {
    "aliases": LAUGHS,
    "itself": b"a: &a [*a]\n",
    "merge": b"a: &a {b: 1}\nc: {<<: *a}\n",
    "depth": b"[" * 60_000,
    "mappings": b"{a: " * 15_000,
    "python": b"!!python/object/apply:os.system ['touch /tmp/owned']\n",
    "number": b"total_steps: " + b"9" * 60_000,
    "sexagesimal": b"total_steps: " + b"1:" * 20_000 + b"1\n",
    "float": b"total_steps: 1e999999999\nbackbone: .inf\n",
    "documents": b"---\na: 1\n" * 5000,
    "keys": b"".join(b"k%d: 1\n" % n for n in range(7000)),
    "garbage": bytes(range(256)) * 200,
    "utf-16": "backbone: \u202ex\n".encode("utf-16"),
    "text": b"backbone: '" + b"x/" * 30_000 + b"'\n",
    "escape": b'backbone: "\\x1b[2J\\u202e../../../../passwd"\n',
}


@pytest.mark.parametrize("bomb", BOMBS)
async def test_config_that_explodes(workstation: Workstation, bomb: str) -> None:
    """Its run comes home under what is known of it otherwise, the file as it is; another run is not held up."""
    box = workstation.add_box()
    RunWriter(box.root, OTHER).start()
    victim = RunWriter(box.root, RUN)
    victim.start()
    victim.log_until(2)
    config = victim.directory / "config.yaml"
    config.write_bytes(BOMBS[bomb])
    settled(box.root)
    os.utime(config, (1, 1))
    with untouched(workstation), bounded(64 * MIB), structlog.testing.capture_logs() as event_log:
        await workstation.once()
    fired(56)
    assert (workstation.training(RUN.name) / "config.yaml").read_bytes() == BOMBS[bomb]
    assert workstation.stands(OTHER.name, "config.yaml")()
    assert not any("\x1b" in str(one) for one in events(event_log, "experiment.named"))
    assert len((workstation.experiment(RUN.name) or workstation.data).name.encode()) <= 255
    workstation.audit()


@pytest.mark.parametrize("size", [100 * MIB, pytest.param(1024 * MIB, marks=pytest.mark.slow)], ids=["100M", "1G"])
async def test_huge_config(workstation: Workstation, size: int) -> None:
    """Of a config.yaml of a gigabyte a few KiB are looked at; it costs no memory, and another run is named as ever."""
    box = workstation.add_box()
    RunWriter(box.root, OTHER).start()
    victim = RunWriter(box.root, RUN)
    victim.start()
    victim.log_until(2)
    os.truncate(victim.directory / "config.yaml", size)
    settled(box.root)
    with untouched(workstation), bounded(160 * MIB), structlog.testing.capture_logs() as event_log:
        await workstation.once()
    assert events(event_log, "file.rejected")
    fired(56)
    assert (workstation.training(RUN.name) / "config.yaml").stat().st_size == size
    assert workstation.stands(OTHER.name, "config.yaml")()
    workstation.audit()
