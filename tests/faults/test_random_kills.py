"""`kill -9` at random moments while eight boxes write: home ends as the boxes are, and no large file starts over.

KILLS and SEED in the environment say how often and which moments; the seed is printed.
"""

import os
import signal
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random

import anyio
import anyio.to_thread
import pytest

from support.busy_boxes import BusyBox
from support.faults import fired
from support.house import Workstation
from support.wanted import missing, temporaries_left

pytestmark = [pytest.mark.anyio, pytest.mark.openssh, pytest.mark.slow]

KILLS = int(os.environ.get("KILLS") or 50)
BOXES = 8
LONGEST = 7.0
"""Seconds that the daemon lives at most; it needs about one to start."""


@asynccontextmanager
async def writing(boxes: list[BusyBox], chance: Random) -> AsyncIterator[None]:
    """Let one box after the other change while the body runs."""

    async def write() -> None:
        while True:
            await anyio.to_thread.run_sync(chance.choice(boxes).change)
            await anyio.sleep(chance.uniform(0, 0.4))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(write)
        yield
        tasks.cancel_scope.cancel()


class Journal:
    """What each journalled transfer had on disk when the daemon was killed; it must go on from there."""

    def __init__(self, workstation: Workstation) -> None:
        self._workstation = workstation
        self._known: dict[str, tuple[str, int]] = {}
        self.resumed = 0
        """How often a transfer was found further than after the kill before."""
        self.ended = 0
        """How many transfers that were journalled at a kill have come home since."""

    def look(self) -> None:
        """Compare with the last look; fails where a transfer has less than it had, or is gone and its file not home."""
        staging = self._workstation.data / ".harvestd" / "staging"
        rows = self._workstation.catalogue("SELECT name, place, synced FROM transfers")
        now = {str(name): (str(place), int(str(synced))) for name, place, synced in rows}
        home = {str(row[0]) for row in self._workstation.catalogue("SELECT place FROM files")}
        intended = str(self._workstation.catalogue("SELECT files FROM intents"))
        for name, (place, synced) in self._known.items():
            if name in now:
                assert now[name][1] >= synced, f"{place} started over: {synced} bytes were journalled"
                self.resumed += now[name][1] > synced
            else:
                assert place in home, f"{place} was dropped with {synced} bytes"
                self.ended += 1
        for name, (place, synced) in now.items():
            assert place in home or place in intended or (staging / name).stat().st_size >= synced
        self._known = now


async def killed(workstation: Workstation, seconds: float) -> None:
    """Run the daemon for so long, and kill it."""
    with workstation.program() as process:
        await anyio.sleep(seconds)
        assert process.poll() is None, workstation.output_file.read_text()
        process.send_signal(signal.SIGKILL)
        await anyio.to_thread.run_sync(process.wait)
    assert process.returncode == -signal.SIGKILL
    fired(32)


async def test_random_kills_under_load(workstation: Workstation, capsys: pytest.CaptureFixture[str]) -> None:
    """However often and whenever the daemon dies: nothing is lost, nothing is left over, nothing large comes twice."""
    seed = int(os.environ.get("SEED") or time.time_ns() % 1_000_000)
    with capsys.disabled():
        print(f"\nSEED={seed} KILLS={KILLS}")  # noqa: T201  (who sees a failure needs it)
    chance = Random(seed)  # noqa: S311  (moments, no secrets)
    roots: list[Path] = [workstation.add_box(f"gpu-{number}").root for number in range(BOXES)]
    boxes = [BusyBox(root, number, chance) for number, root in enumerate(roots)]
    journal = Journal(workstation)
    # Slow enough for large files to be on their way when the daemon dies.
    workstation.settings(limits={"bandwidth": "6MiB/s", "free_space": "1MiB"})
    async with writing(boxes, chance):
        for _ in range(KILLS):
            await killed(workstation, chance.uniform(0, LONGEST))
            journal.look()
    for box in boxes:
        box.finish()
    for result in (await workstation.once()).values():
        assert not result.failed
        assert not result.conflicts
    assert missing(workstation) == []
    assert temporaries_left(workstation) == []
    workstation.audit()
    with capsys.disabled():
        print(f"transfers found further {journal.resumed} times, come home after a kill {journal.ended} times")  # noqa: T201  (a run without any proves nothing)
    assert journal.resumed + journal.ended
