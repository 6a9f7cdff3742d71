"""Growing files under hard conditions: writers without pause, many files at once, people and crashes at home."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from harvestd.convention.scan.completeness import whole_lines
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.harvest.transfer.tail import STEP
from support.faults import fired
from support.house import GpuBox, Workstation
from support.openssh import OpenSSHFactory, obeying_permissions
from support.waiting import Growth, events, holds, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
LOG = ("logs", "train_log.jsonl")


def write_run(root: Path, run: RunSpec = RUN) -> RunWriter:
    """Write a run of three steps that goes on."""
    writer = RunWriter(root, run)
    writer.start()
    writer.log_until(3)
    return writer


@contextmanager
def appending(path: Path, line: bytes) -> Iterator[None]:
    """Append a line to a file without any pause for the body, in a thread, up to 200 MiB."""
    done = threading.Event()

    def write() -> None:
        with path.open("ab", buffering=0) as file:
            for _ in range(200 * 1024 * 1024 // len(line)):
                if done.is_set():
                    return
                file.write(line)
                done.wait(0.0002)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()


async def test_log_that_never_stops_growing_holds_no_pass_open(workstation: Workstation) -> None:
    """A pass over a box whose log grows all the time ends, with everything else and a part of the log at home."""
    box = workstation.add_box()
    writer = write_run(box.root)
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    evals.evaluate(2)
    before = writer.train_log.stat().st_size
    with appending(writer.train_log, b'{"step": 4, "pad": "' + b"x" * 4000 + b'"}\n'), anyio.fail_after(60):
        (result,) = (await workstation.once()).values()
        assert writer.train_log.stat().st_size > before
        fired(14)
    # The box may refuse to swear to what it read of a file that never rests; the next look asks again.
    assert {trouble.reason for trouble in result.failed.values()} <= {"written to without a pause"}
    here = workstation.training(RUN.name).joinpath(*LOG).read_bytes()
    assert len(here) >= before
    assert whole_lines(here) == len(here)
    assert writer.train_log.read_bytes().startswith(here)
    assert list(workstation.data.glob("*/eval_results/*/*/*/*/run_meta.json"))
    workstation.audit()


async def test_log_that_never_stops_growing_holds_up_no_metric(workstation: Workstation) -> None:
    """While one log grows without pause, an eval that is written meanwhile still arrives, and the log is a prefix."""
    box = workstation.add_box()
    writer = write_run(box.root)
    async with workstation.running():
        await until(workstation.stands(RUN.name, *LOG))
        growth = Growth(writer.train_log, workstation.training(RUN.name).joinpath(*LOG), whole_lines)
        with appending(writer.train_log, b'{"step": 4, "pad": "' + b"x" * 400 + b'"}\n'):
            evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
            evals.write_config()
            evals.evaluate(2)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(growth.run)
                await until(lambda: list(workstation.data.glob("*/eval_results/*/*/*/*/run_meta.json")), seconds=6)
                seen = len(growth.sizes)
                await until(lambda: len(growth.sizes) > seen + 1)
                tasks.cancel_scope.cancel()
        await until(workstation.has(writer.train_log, RUN.name, *LOG))
    assert growth.faults == []
    assert len(growth.inodes) == 1
    workstation.audit()


async def test_more_growing_files_than_are_kept_open(workstation: Workstation) -> None:
    """Forty growing files of twenty runs, appended to in any order, all follow their sources."""
    box = workstation.add_box()
    runs = [RunSpec(timestamp=f"2025-08-20_03-{minute:02}-43") for minute in range(20)]
    writers = [write_run(box.root, run) for run in runs]

    def behind() -> list[str]:
        return [writer.run.name for writer in writers if not workstation.follows(writer)()]

    async with workstation.running() as event_log:
        await until(lambda: not behind())
        # The file that was opened longest ago writes in the moment in which another one appears.
        for minute in range(20, 26):
            writers[minute - 12].log_step(4)
            writers.append(write_run(box.root, RunSpec(timestamp=f"2025-08-20_03-{minute}-43")))
            await until(lambda: not behind())
        for chosen in (writers[10:], [writers[0], *writers[4:12]], writers[::3], writers):
            for writer in chosen:
                writer.log_step(writer.last_step + 1)
            await until(lambda: not behind())
        assert not events(event_log, "file.conflict")
    workstation.audit()


async def test_growing_file_that_a_person_truncates_is_fetched_anew(workstation: Workstation) -> None:
    """A log that a person cuts at home while it is followed: set aside, told, fetched again; the daemon goes on."""
    box = workstation.add_box()
    writer = write_run(box.root)
    async with workstation.running() as event_log:
        await until(workstation.has(writer.train_log, RUN.name, *LOG))
        here = workstation.training(RUN.name).joinpath(*LOG)
        here.write_bytes(here.read_bytes()[:100])
        writer.log_step(4)
        await until(holds(here, writer.train_log.read_bytes()))
        assert len(events(event_log, "file.conflict")) == 1
        writer.log_step(5)
        await until(holds(here, writer.train_log.read_bytes()))
    workstation.audit()


async def test_growing_file_that_a_person_deletes_is_fetched_anew(workstation: Workstation) -> None:
    """A log that a person deletes at home while it is followed does not grow on where nobody sees it."""
    box = workstation.add_box()
    writer = write_run(box.root)
    async with workstation.running() as event_log:
        await until(workstation.has(writer.train_log, RUN.name, *LOG))
        here = workstation.training(RUN.name).joinpath(*LOG)
        here.unlink()
        writer.log_step(4)
        await until(holds(here, writer.train_log.read_bytes()))
        assert len(events(event_log, "file.conflict")) == 1
    workstation.audit()


async def test_directory_in_a_growing_file_s_place_stops_nobody(workstation: Workstation) -> None:
    """A directory that stands where a log was: told, left alone; the events beside it go on growing."""
    box = workstation.add_box()
    writer = write_run(box.root)
    async with workstation.running() as event_log:
        await until(workstation.has(writer.train_log, RUN.name, *LOG))
        here = workstation.training(RUN.name).joinpath(*LOG)
        here.unlink()
        here.mkdir()
        writer.log_step(4)
        await until(workstation.has(writer.events, RUN.name, "tensorboard", writer.events.name))
        await until(lambda: events(event_log, "file.conflict"))
        writer.log_step(5)
        await until(workstation.has(writer.events, RUN.name, "tensorboard", writer.events.name))
        assert here.is_dir()
        assert len(events(event_log, "file.conflict")) <= 2


async def test_torn_tail_of_a_finished_run_comes_as_it_is(workstation: Workstation) -> None:
    """A last line that the writer never ended is held back while the run may go on, and comes once it is finished."""
    box = workstation.add_box()
    writer = write_run(box.root)
    with writer.train_log.open("ab") as log:
        log.write(b'{"step": 4, "lo')
    async with workstation.running():
        whole = writer.train_log.read_bytes()[: whole_lines(writer.train_log.read_bytes())]
        await until(workstation.stands(RUN.name, *LOG))
        here = workstation.training(RUN.name).joinpath(*LOG)
        await until(holds(here, whole))
        writer.finish()
        await until(holds(here, writer.train_log.read_bytes()))
    workstation.audit()


async def test_tensorboard_files_in_sub_directories_come_live(workstation: Workstation) -> None:
    """What add_scalars, add_hparams and Lightning write below tensorboard/ grows here under the same sub-path."""
    box = workstation.add_box()
    writer = write_run(box.root)
    name = writer.events.name
    nested = [writer.events.parent / below / name for below in ("loss_train", "lightning_logs/version_0")]
    async with workstation.running():
        await until(workstation.has(writer.events, RUN.name, "tensorboard", name))
        for path in nested:
            path.parent.mkdir(parents=True)
            path.write_bytes(writer.events.read_bytes())
        for path in nested:
            below = path.relative_to(writer.events.parent).parts
            await until(workstation.has(path, RUN.name, "tensorboard", *below))
        writer.log_until(5)
        for path in nested:
            path.write_bytes(writer.events.read_bytes())
            below = path.relative_to(writer.events.parent).parts
            await until(workstation.has(path, RUN.name, "tensorboard", *below))
    workstation.audit()


async def test_zero_bytes_of_a_preallocated_event_file_never_come(workstation: Workstation) -> None:
    """Records come up to where the filler begins, however long it is; what is written over it comes then."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    writer.log_until(2)
    events_here = ("tensorboard", writer.events.name)
    written = writer.events.read_bytes()
    with writer.events.open("r+b") as file:
        file.truncate(len(written) + 2 * STEP)
    await workstation.once()
    here = workstation.training(RUN.name).joinpath(*events_here)
    assert here.read_bytes() == written
    with writer.events.open("r+b") as file:
        file.seek(len(written))
        file.write(written)
    await workstation.once()
    assert here.read_bytes() == written * 2


async def test_growing_file_that_nobody_may_read_leaves_nothing_here(
    workstation: Workstation, openssh_factory: OpenSSHFactory, tmp_path: Path
) -> None:
    """Of event files without a read permission nothing is made at home, and what can be read comes."""
    server = openssh_factory("powerless", extra_config=obeying_permissions())
    writer = write_run(tmp_path)
    workstation.boxes["gpu-1"] = GpuBox(server, tmp_path, server.port)
    shut = writer.events.with_name("events.out.tfevents.1755000000.host.1.0")
    shut.write_bytes(writer.events.read_bytes())
    shut.chmod(0)
    async with workstation.running() as event_log:
        await until(workstation.follows(writer))
        await until(lambda: events(event_log, "file.rejected", path=shut))
    assert not list(workstation.data.rglob(shut.name))
