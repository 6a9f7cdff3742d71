"""A defect anywhere in the work on one host: an exception in each await of it, one after the other.

The host's tasks are driven by `support.raising`: at every place in harvestd's code where one of them waits, an
exception that nobody expects is raised once. After each the host fails, rests and begins again, until there is no new
place.
"""

import asyncio
from collections import Counter

import pytest

from harvestd.harvest.context import Context
from harvestd.harvest.fleet.fleet import Fleet
from harvestd.harvest.metrics import FleetMetrics
from harvestd.harvest.sync import Broadcast
from harvestd.store.root import DataRoot
from support.house import Workstation
from support.large_checkpoints import write_large_checkpoint
from support.raising import Raising, fresh_run, raise_in_tasks_of
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

SUBJECT = "gpu-a"
OTHERS = ("gpu-b", "gpu-c")
TIMEOUT = 120.0
"""Seconds for one exception to be raised and reported, and for all files of the round to come."""
PLACES = 60
"""Awaits at least, in which an exception is raised."""
ROUNDS_WITHOUT = 3
"""Rounds in which nothing new was awaited, after which all was."""


@pytest.fixture
def raising(monkeypatch: pytest.MonkeyPatch) -> Raising:
    """Raise in the tasks of the subject."""
    return raise_in_tasks_of(SUBJECT, monkeypatch)


@pytest.fixture
def tallies(monkeypatch: pytest.MonkeyPatch) -> list[FleetMetrics]:
    """Return what each fleet counts."""
    made: list[FleetMetrics] = []
    init = Fleet.__init__

    def noted(self: Fleet, context: Context, root: DataRoot, scan_now: Broadcast, tally: FleetMetrics) -> None:
        init(self, context, root, scan_now, tally)
        made.append(tally)

    monkeypatch.setattr(Fleet, "__init__", noted)
    return made


async def test_each_await_of_a_host_raises(
    workstation: Workstation, raising: Raising, tallies: list[FleetMetrics]
) -> None:
    """The host is back after each, all of it comes, and the other hosts never fail."""
    subject = workstation.add_box(SUBJECT)
    write_large_checkpoint(subject.root)
    writers = [fresh_run(workstation.add_box(name).root, number) for number, name in enumerate(OTHERS)]
    asyncio.get_running_loop().set_task_factory(raising.task)
    async with workstation.running() as event_log:
        quiet = number = 0
        while quiet < ROUNDS_WITHOUT:
            before = len(raising.told)
            number += 1
            writers.append(fresh_run(subject.root, 10 + number))
            for writer in writers:
                writer.log_step(2 + number)
            for writer in writers:
                await until(workstation.follows(writer), TIMEOUT)
            await until(lambda: raising.waiting is None, TIMEOUT)
            quiet = quiet + 1 if len(raising.told) == before else 0
        failed = [each for each in event_log if each["event"] == "host.failed"]
        assert len(raising.told) >= PLACES
        assert {str(each["host"]) for each in failed} == {SUBJECT}
        assert Counter(str(each["error"]) for each in events(event_log, "host.failed")).most_common(1)[0][1] == 1
        assert tallies[0].of(SUBJECT).defects == len(failed)
        assert not any(events(event_log, name, host=other) for name in ("host.lost", "host.failed") for other in OTHERS)
    workstation.audit()
