"""Large checkpoints over slow and broken links: they hold up nothing, go on where they were, and are never torn."""

import signal
import time
from functools import partial

import anyio
import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from support.faults import fired
from support.house import Workstation
from support.large_checkpoints import (
    LARGE,
    MIB,
    RUN,
    SIZE,
    is_absent,
    is_home,
    journalled,
    staged,
    staging_is_empty,
    write_large_checkpoint,
)
from support.relay import Relay, relayed
from support.waiting import events, holds, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


def has_more(workstation: Workstation, size: int) -> bool:
    """Return whether more than `size` bytes are journalled."""
    return journalled(workstation) > size


async def begun(workstation: Workstation, relay: Relay, size: int) -> None:
    """Wait until so many bytes of the checkpoint came, and make sure that it is not done."""
    await until(lambda: relay.received >= size and staged(workstation) >= size // 2)
    assert is_absent(workstation)
    assert relay.connections >= 3, "the bulk way has connections of its own"


async def test_checkpoint_holds_up_no_metric(workstation: Workstation) -> None:
    """While a large checkpoint crawls over a slow line, an eval that is written meanwhile is home long before it."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root)
    async with relayed(box.port) as relay:
        relay.rate = 2 * MIB
        workstation.reach("gpu-a", relay.port)
        async with workstation.running() as event_log:
            await begun(workstation, relay, 2 * MIB)
            evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
            evals.write_config()
            evals.evaluate(10)
            metrics = evals.leaf(10) / "metrics.csv"
            here = workstation.training(RUN.name).with_name("eval_results") / metrics.relative_to(
                box.root / "eval_runs"
            )
            await until(holds(here, metrics.read_bytes()), seconds=6)
            assert is_absent(workstation)
            assert MIB <= staged(workstation) < 3 * SIZE
            relay.rate = None
            await until(is_home(workstation, writer))
            await until(lambda: staging_is_empty(workstation))
            assert events(event_log, "checkpoint.completed")
    workstation.audit()


async def test_one_large_file_comes_over_several_connections(
    workstation: Workstation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a line with a long round trip one file is fetched in segments side by side, and is the same file at home."""
    # The relay's five milliseconds are to count for many.
    monkeypatch.setattr("harvestd.harvest.transfer.pool.ROUND_TRIP_EACH", 0.001)
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root, names=LARGE[:1])
    async with relayed(box.port) as relay:
        relay.rate = MIB
        workstation.reach("gpu-a", relay.port)
        async with workstation.running():
            await until(lambda: relay.open >= 1 + 4)
            await until(partial(has_more, workstation, 4 * MIB))
            assert is_absent(workstation)
            relay.rate = None
            await until(is_home(workstation, writer))
            await until(lambda: staging_is_empty(workstation))
            assert relay.received <= SIZE + 4 * MIB
            await until(lambda: relay.open <= 1)
    workstation.audit()


async def test_many_large_files_keep_within_the_bandwidth(workstation: Workstation) -> None:
    """Several connections together are no faster than the operator allows."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root, 4 * MIB)
    async with relayed(box.port) as relay:
        relay.rate = 8 * MIB
        workstation.reach("gpu-a", relay.port)
        started = time.monotonic()
        (result,) = (await workstation.once(limits={"bandwidth": "4MiB/s"})).values()
        # A second's worth may run ahead.
        assert time.monotonic() - started >= 12 / 4 - 1
        assert not result.failed
    assert is_home(workstation, writer)()
    workstation.audit()


async def test_cut_link_resumes(workstation: Workstation) -> None:
    """A box that dies in the middle and comes back: what was here already is not sent again, and nothing is torn."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root)
    async with relayed(box.port) as relay:
        relay.rate = 4 * MIB
        workstation.reach("gpu-a", relay.port)
        async with workstation.running() as event_log:
            await begun(workstation, relay, 24 * MIB)
            await anyio.to_thread.run_sync(box.server.kill)
            await until(lambda: events(event_log, "host.lost"))
            assert is_absent(workstation)
            kept = journalled(workstation)
            assert kept >= 12 * MIB
            fired(1)
            relay.rate, relay.received = None, 0
            await anyio.to_thread.run_sync(box.server.start)
            await until(is_home(workstation, writer))
            await until(lambda: staging_is_empty(workstation))
            assert relay.received <= 3 * SIZE - kept + 2 * MIB
    workstation.audit()


async def test_cut_connection_of_one_file_does_not_start_the_others_over(workstation: Workstation) -> None:
    """All connections cut at once, the box alive: the next ones go on where the journal says."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root)
    async with relayed(box.port) as relay:
        relay.rate = 4 * MIB
        workstation.reach("gpu-a", relay.port)
        async with workstation.running():
            kept = 0
            for _ in range(2):
                await begun(workstation, relay, 12 * MIB)
                relay.cut()
                await until(lambda: relay.open == 0)
                await until(partial(has_more, workstation, kept + 4 * MIB))
                kept = journalled(workstation)
                relay.received = 0
            relay.rate = None
            await until(is_home(workstation, writer))
            assert relay.received <= 3 * SIZE - kept + 2 * MIB
            await until(lambda: staging_is_empty(workstation))
    workstation.audit()


async def test_killed_daemon_resumes(workstation: Workstation) -> None:
    """Killed in the middle: nothing partial is seen, and the next start goes on with what was journalled."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root)
    async with relayed(box.port) as relay:
        relay.rate = 3 * MIB
        workstation.reach("gpu-a", relay.port)
        workstation.settings()
        with workstation.program() as process:
            await until(lambda: workstation.experiment(RUN.name) and journalled(workstation) > 8 * MIB)
            process.send_signal(signal.SIGKILL)
            await anyio.to_thread.run_sync(process.wait)
        assert is_absent(workstation)
        kept = journalled(workstation)
        relay.rate, relay.received = None, 0
        async with workstation.running():
            await until(is_home(workstation, writer))
            await until(lambda: staging_is_empty(workstation))
        assert relay.received <= 3 * SIZE - kept + 2 * MIB
    workstation.audit()


@pytest.mark.parametrize("rate", [4 * MIB, 0], ids=["slow", "silent"])
async def test_sigterm_in_a_transfer_ends_in_time_and_resumes(workstation: Workstation, rate: int) -> None:
    """SIGTERM in a transfer, on a slow line or one that fell silent: out in five seconds, and the next pass resumes."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root)
    async with relayed(box.port) as relay:
        relay.rate = 4 * MIB
        workstation.reach("gpu-a", relay.port)
        workstation.settings()
        with workstation.program() as process:
            await until(lambda: workstation.experiment(RUN.name))
            await begun(workstation, relay, 12 * MIB)
            relay.rate = rate
            process.send_signal(signal.SIGTERM)
            await until(lambda: process.poll() is not None, seconds=5)
        assert process.returncode == 0
        kept = journalled(workstation)
        assert kept >= 6 * MIB
        fired(33)
        assert is_absent(workstation)
        relay.rate, relay.received = None, 0
        (result,) = (await workstation.once()).values()
        assert not result.failed
        assert relay.received <= 3 * SIZE - kept + 2 * MIB
    assert is_home(workstation, writer)()
    assert staging_is_empty(workstation)
    workstation.audit()


async def test_large_file_that_changes_while_it_is_read_is_not_published_torn(workstation: Workstation) -> None:
    """A checkpoint part rewritten in the middle of its transfer: the daemon lives, and the new version comes whole."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root)
    async with relayed(box.port) as relay:
        relay.rate = 4 * MIB
        workstation.reach("gpu-a", relay.port)
        async with workstation.running():
            await begun(workstation, relay, 12 * MIB)
            directory = writer.directory / "training_state" / "step_final"
            with (directory / LARGE[0]).open("r+b") as file:
                file.write(b"another content")
            assert is_absent(workstation)
            writer.seal_checkpoint("final")
            relay.rate = None
            await until(is_home(workstation, writer))
            await until(lambda: staging_is_empty(workstation))
            await until(lambda: relay.open <= 5)
    workstation.audit()


async def test_checkpoint_that_vanishes_in_its_transfer_leaves_nothing(workstation: Workstation) -> None:
    """A run that is moved away in the middle of its transfer: the daemon lives, and staging is cleared."""
    box = workstation.add_box()
    writer = write_large_checkpoint(box.root)
    async with relayed(box.port) as relay:
        relay.rate = 4 * MIB
        workstation.reach("gpu-a", relay.port)
        async with workstation.running() as event_log:
            await begun(workstation, relay, 12 * MIB)
            await anyio.to_thread.run_sync(box.server.kill)
            await until(lambda: events(event_log, "host.lost"))
            assert workstation.catalogue("SELECT synced FROM transfers")
            (writer.directory / "training_state").rename(box.root / "moved away")
            relay.rate = None
            await anyio.to_thread.run_sync(box.server.start)
            other = RunWriter(box.root, RunSpec(timestamp="2025-08-21_03-31-43"))
            other.start()
            other.log_until(2)
            await until(workstation.stands(other.run.name, "logs", "train_log.jsonl"))
            await until(lambda: staging_is_empty(workstation))
            assert is_absent(workstation)
    workstation.audit()
