"""Boxes without end: entries, news, bytes. Memory stays flat, the host is flagged soon, another one comes home."""

import os
from collections.abc import Iterable, Iterator
from itertools import count, repeat
from pathlib import Path

import anyio
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.harvest.context import Context
from harvestd.harvest.metrics import ProgressListener
from harvestd.remote.api import Limits
from harvestd.settings import Settings
from support.faults import fired
from support.house import Workstation
from support.lying import Asked, Liar, add_port, entry, frame, json_frame, listening, scan_part, settled
from support.memory import bounded
from support.surroundings import untouched
from support.waiting import events, until

pytestmark = pytest.mark.anyio

RUN = RunSpec()
OTHER = RunSpec(timestamp="2025-08-21_00-00-00")
MIB = 1024 * 1024
SMALL = Limits(entries=20_000)


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Limits:
    """Have hosts keep to a few thousand entries."""
    real = Context.of.__func__  # type: ignore[attr-defined]  # what a class method is made of

    def limited(cls: type[Context], settings: Settings, monitor: ProgressListener) -> Context:
        context: Context = real(cls, settings, monitor)
        context.limits = SMALL
        return context

    monkeypatch.setattr(Context, "of", classmethod(limited))
    return SMALL


def run_on(root: Path, run: RunSpec) -> Path:
    """Write a whole run, long ago; gives its directory."""
    writer = RunWriter(root, run)
    writer.start()
    writer.log_until(3)
    writer.finish()
    settled(root)
    return writer.directory


def new_names(_: Asked) -> Iterator[bytes]:
    """Send more and more entries."""
    for part in count():
        yield scan_part(set=[[f"run_{part}", [entry(f"{n}", "f", 1, 1, 1, n) for n in range(1000)]]])


def the_same_names(_: Asked) -> Iterable[bytes]:
    """Send the same again and again."""
    return repeat(scan_part(set=[["a", [entry(f"{n}", "f", 1, 1, 1, n) for n in range(1000)]]]))


def coming_and_going(_: Asked) -> Iterable[bytes]:
    """Send an entry, and that it is gone."""
    return repeat(scan_part(set=[["a", [entry("x")]]]) + scan_part(gone=[["a", ["x"]]]) * 50)


def shut(_: Asked) -> Iterator[bytes]:
    """Send directories that can't be listed."""
    for part in count():
        yield scan_part(shut=[f"{part}-{n}" for n in range(1000)])


def bad_names(_: Asked) -> Iterator[bytes]:
    """Send names that no file may have."""
    for part in count():
        yield scan_part(set=[["", [entry(f"../{part}-{n}") for n in range(100)]]])


LISTINGS = [new_names, the_same_names, coming_and_going, shut, bad_names]


@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("scan", LISTINGS)
async def test_listing_without_end(workstation: Workstation, tmp_path: Path, scan: object) -> None:
    """It is cut off at a limit, within five seconds, and costs no more memory than a tree within the limit."""
    liar, honest = Liar(tmp_path / "box", scan=scan), Liar(tmp_path / "honest")  # type: ignore[arg-type]  # one of the scripts above
    run_on(honest.root, RUN)
    await cut_off(workstation, liar, honest, 48 * MIB)


async def cut_off(workstation: Workstation, liar: Liar, honest: Liar, size: int) -> None:
    """Run the daemon on both until the liar is quarantined and the honest box came home."""
    async with listening(liar.script) as port, listening(honest.script) as other:
        add_port(workstation, "liar", port, liar.root)
        add_port(workstation, "honest", other, honest.root)
        with untouched(workstation), bounded(size):
            async with workstation.running() as event_log:
                await until(lambda: "scan" in liar.heard)
                began = anyio.current_time()
                await until(lambda: events(event_log, "host.quarantined", host="liar"))
                assert anyio.current_time() - began < 30  # without a limit: for ever
                fired(53)
                await until(workstation.stands(RUN.name, "training_state", "step_final", "training_info.json"))
    assert len(events(event_log, "host.quarantined")) == 1
    workstation.audit()


@pytest.mark.parametrize("path", ["training_state/step_final/optimizer.pt", "logs/train_log.jsonl", "config.yaml"])
async def test_file_without_end(workstation: Workstation, tmp_path: Path, path: str) -> None:
    """More bytes than were allowed to come are no file, whatever its size was said to be."""
    liar, honest = Liar(tmp_path / "box"), Liar(tmp_path / "honest")
    run_on(honest.root, RUN)
    victim = run_on(liar.root, OTHER) / path
    version = [64 * MIB, 1, 1, 77]
    directory = str(victim.parent.relative_to(liar.root / "training_runs"))
    liar.rows = [("training_runs", directory, [victim.name, "f", *version])]

    def endless(number: int, asked: str) -> Iterator[bytes] | None:
        if not asked.endswith(path):
            return None
        return _then(
            json_frame(b"O", {"id": number, "version": version, "verified": NOTHING}), frame(b"D", bytes(65_536))
        )

    liar.read = endless
    await cut_off(workstation, liar, honest, 96 * MIB)
    assert not workstation.stands(OTHER.name, path)() or victim.name == "train_log.jsonl"


NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def _then(first: bytes, rest: bytes) -> Iterator[bytes]:
    yield first
    yield from repeat(rest)


@pytest.mark.openssh
@pytest.mark.usefixtures("limits")
@pytest.mark.parametrize("sftp_only", [False, True], ids=["probe", "sftp"])
async def test_real_tree_beyond_the_limit(workstation: Workstation, *, sftp_only: bool) -> None:
    """A box that really has more entries than are taken is flagged, and told how to go on."""
    box = workstation.add_box(sftp_only=sftp_only)
    directory = run_on(box.root, RUN) / "logs"
    for n in range(SMALL.entries):
        os.mknod(directory / f"rollout-{n}")
    with untouched(workstation), bounded(96 * MIB):
        (outcome,) = (await workstation.outcomes()).values()
    assert f"more than {SMALL.entries} entries" in str(outcome.error)
    fired(53)
    assert outcome.error is not None
    assert "prune" in outcome.error.hint
    workstation.audit()
