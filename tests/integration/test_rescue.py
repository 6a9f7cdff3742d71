"""A rented box that is being taken away while a run writes: what can be saved is, and what was lost is said."""

import os
from collections.abc import Callable

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from support.account import Account
from support.large_checkpoints import MIB, checkpoint, is_home, write_large_checkpoint
from support.openssh import OpenSSHServer
from support.waiting import EventLog, events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

BOX = "a" * 32
RUN = RunSpec(total_steps=60)
LARGE = 24 * MIB
TORN = b'{"step": 4, "lo'


@pytest.fixture
def server(account: Account) -> OpenSSHServer:
    """Return a box whose trees lie on its own disk, which ends with it."""
    return account.rent(BOX, "gpu-a", "127.0.0.2", file_system_mounts=[])


def _state(account: Account) -> list[tuple[object, ...]]:
    return account.workstation.catalogue("SELECT state, pending_bytes > 0 FROM hosts")


def _say(account: Account, status: str) -> None:
    account.cloud.instances[0]["status"] = status


def _at_home(account: Account, run: RunWriter, *parts: str) -> Callable[[], bool]:
    return account.workstation.has(run.directory.joinpath(*parts), RUN.name, *parts)


async def test_what_can_be_saved_is_and_the_rest_is_named(account: Account, server: OpenSSHServer) -> None:
    """Terminating ends all waiting: config, log with its raw tail and metrics come at once, the checkpoint last.

    What of that did not come before the box died is told when it is gone, and not a byte more.
    """
    writer = RunWriter(account.root, RUN)
    writer.start()
    writer.log_until(3)
    with writer.train_log.open("ab") as log:
        log.write(TORN)
    directory = writer.begin_checkpoint(3)
    (directory / "huge.pt").write_bytes(os.urandom(LARGE))
    writer.seal_checkpoint(3)
    metrics = evals_of_run(account.root, EvalSpec(run=RUN)).begin(3) / "metrics.csv"
    sections = account.sections() | {"poll": {"settle": "10m"}, "limits": {"bandwidth": "1MiB"}}
    async with account.workstation.running(**sections) as event_log:
        await until(lambda: _state(account) == [("connected", 1)])
        log_here = _at_home(account, writer, *writer.train_log.relative_to(writer.directory).parts)
        assert not log_here()
        assert metrics.read_bytes() not in account.workstation.filed().values()
        _say(account, "terminating")
        await until(_at_home(account, writer, "config.yaml"))
        await until(log_here)
        await until(lambda: metrics.read_bytes() in account.workstation.filed().values())
        (ending,) = events(event_log, "host.ending")
        assert (ending["host"], ending["status"]) == ("gpu-a", "terminating")
        assert ending["bytes"] > 0
        await until(lambda: _state(account) == [("ending", 1)])
        server.kill()
        account.cloud.end(BOX)
        await until(lambda: events(event_log, "host.gone"))
        await until(lambda: events(event_log, "host.lost_data"))
    (lost,) = events(event_log, "host.lost_data")
    assert lost["host"] == "gpu-a"
    assert lost["bytes"] >= LARGE
    assert any("/training_state/step_3 " in place for place in lost["what"])
    assert not any("metrics" in place or "train_log" in place for place in lost["what"])
    assert len(events(event_log, "host.ending")) == 1
    account.workstation.audit()


async def test_a_box_that_recovers_lost_nothing(account: Account, server: OpenSSHServer) -> None:
    """An unhealthy box is told of once, read without waiting, and well again it is as before over the same link."""
    writer = RunWriter(account.root, RUN)
    writer.start()
    writer.log_until(3)
    async with account.workstation.running(**account.sections() | {"poll": {"settle": "10m"}}) as event_log:
        await until(lambda: events(event_log, "host.connected"))
        before = server.commands()
        _say(account, "unhealthy")
        await until(account.workstation.follows(writer))
        await until(lambda: _state(account) == [("ending", 0)])
        _say(account, "active")
        await until(lambda: _state(account) == [("connected", 0)])
        assert server.commands() == before
    assert [one["status"] for one in events(event_log, "host.ending")] == ["unhealthy"]
    assert not events(event_log, "host.lost_data")
    assert not events(event_log, "host.gone")


async def test_a_box_that_ends_with_all_at_home_lost_nothing(account: Account, server: OpenSSHServer) -> None:
    """Who is gone with nothing outstanding is gone, and that is all."""
    writer = RunWriter(account.root, RUN)
    writer.start()
    writer.log_until(3)
    async with account.workstation.running(**account.sections()) as event_log:
        await until(account.workstation.follows(writer))
        _say(account, "preempted")
        await until(lambda: events(event_log, "host.ending"))
        await until(lambda: _state(account) == [("ending", 0)])
        server.kill()
        account.cloud.end(BOX)
        await until(lambda: events(event_log, "host.gone"))
        await until(lambda: account.workstation.catalogue("SELECT 1 FROM hosts WHERE state = 'gone'"))
    assert not events(event_log, "host.lost_data")


@pytest.mark.slow
async def test_what_is_worth_more_goes_before_a_checkpoint_that_is_under_way(
    account: Account, server: OpenSSHServer
) -> None:
    """On a box that ends a large leaf overtakes a checkpoint, which goes on from where it was."""
    writer = write_large_checkpoint(account.root, LARGE)
    sections = account.sections() | {"limits": {"bandwidth": "6MiB"}}
    moved: EventLog = []
    async with account.workstation.running(**sections) as event_log:
        _say(account, "terminating")
        await until(lambda: account.workstation.catalogue("SELECT 1 FROM transfers WHERE synced > 0"))
        leaf = evals_of_run(account.root, EvalSpec(run=writer.run)).begin(3)
        with (leaf / "metrics.csv").open("ab") as file:
            file.write(b"0" * 10 * MIB)
        content = (leaf / "metrics.csv").read_bytes()
        await until(lambda: content in account.workstation.filed().values(), 60)
        run = account.workstation.training(RUN.name)
        assert run.exists()
        assert not any((run / path).exists() for path in checkpoint(writer))
        await until(is_home(account.workstation, writer), 60)
        moved += events(event_log, "file.downloaded")
    assert moved
    assert server.running
    account.workstation.audit()
