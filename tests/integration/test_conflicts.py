"""What stands in a result's place at home: left alone for as long as it stands there, and no longer."""

from collections.abc import Callable
from pathlib import Path

import pytest

from support.changing import RUN, at_home, write_eval, write_run
from support.house import Workstation
from support.waiting import events, holds, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

TIMEOUT = 60.0


def a_file(place: Path) -> Path:
    """Put another file there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(b"mine\n")
    return place


def a_file_for_its_directory(place: Path) -> Path:
    """Put a file where its directory belongs."""
    place.parent.parent.mkdir(parents=True, exist_ok=True)
    place.parent.write_bytes(b"mine\n")
    return place.parent


def a_link_for_its_directory(place: Path) -> Path:
    """Put a link where its directory belongs."""
    elsewhere = place.parents[4] / "elsewhere"
    elsewhere.mkdir(parents=True)
    place.parent.parent.mkdir(parents=True, exist_ok=True)
    place.parent.symlink_to(elsewhere)
    return place.parent


@pytest.mark.parametrize("obstacle", [a_file, a_file_for_its_directory, a_link_for_its_directory])
async def test_result_comes_once_its_place_is_free(workstation: Workstation, obstacle: Callable[[Path], Path]) -> None:
    """Whoever moves away what stands in the way need do nothing else: no connection has to be lost for it."""
    box = workstation.add_box()
    write_run(box.root)
    await workstation.once()
    evals = write_eval(box.root)
    metrics = evals.leaf(2) / "metrics.csv"
    here = at_home(workstation, metrics)
    mine = obstacle(here)
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "file.conflict"), TIMEOUT)
        assert not here.exists() or here.read_bytes() == b"mine\n"
        mine.rename(mine.with_name("moved away"))
        await until(holds(here, metrics.read_bytes()), TIMEOUT)
        assert len(events(event_log, "host.connected")) == 1
    assert (mine.with_name("moved away")).exists()


async def test_log_goes_on_once_its_place_is_free(workstation: Workstation) -> None:
    """A growing file whose place a person had taken comes from its beginning, and goes on to grow."""
    box = workstation.add_box()
    writer = write_run(box.root)
    await workstation.once()
    log = workstation.training(RUN.name) / "logs" / "train_log.jsonl"
    log.unlink()
    log.mkdir()
    (log / "mine").write_bytes(b"mine\n")
    writer.log_step(4)
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "file.conflict"), TIMEOUT)
        log.rename(log.with_name("moved away"))
        await until(holds(log, writer.train_log.read_bytes()), TIMEOUT)
        writer.log_step(5)
        await until(holds(log, writer.train_log.read_bytes()), TIMEOUT)
        assert len(events(event_log, "host.connected")) == 1
    assert (log.with_name("moved away") / "mine").read_bytes() == b"mine\n"


async def test_edited_result_that_was_taken_away_comes_in_its_new_version(workstation: Workstation) -> None:
    """The edit stays for as long as it stands there; once it is moved away, the newer version comes."""
    box = workstation.add_box()
    write_run(box.root)
    evals = write_eval(box.root)
    metrics = evals.leaf(2) / "metrics.csv"
    await workstation.once()
    here = at_home(workstation, metrics)
    here.write_bytes(b"edited here\n")
    metrics.write_bytes(metrics.read_bytes() + b"5,1.0\n")
    evals.seal(2)
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "file.conflict"), TIMEOUT)
        assert here.read_bytes() == b"edited here\n"
        here.rename(here.with_name("my edit"))
        await until(holds(here, metrics.read_bytes()), TIMEOUT)
        assert len(events(event_log, "host.connected")) == 1
    workstation.audit()
