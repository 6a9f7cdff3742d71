"""The workstation fails the daemon: its catalogue's disk, its syncs, its descriptors. The daemon is a real program."""

import fcntl
import json
import re
import resource
import select
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, base_evals, evals_of_run
from harvestd.errors import ExitCode
from support.command import command, environment, harvestd_command
from support.faults import fired
from support.house import Workstation
from support.small_disks import fill, free_on, small_disk
from support.strace import require_strace
from support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
OTHER = RunSpec(timestamp="2025-08-21_03-31-43")
MIB = 1024 * 1024


def write_run(root: Path, run: RunSpec = RUN) -> RunWriter:
    """Write a run of three steps that goes on."""
    writer = RunWriter(root, run)
    writer.start()
    writer.log_until(3)
    return writer


def write_leaf(root: Path, step: int = 2, run: RunSpec = RUN) -> Path:
    """Write one sealed leaf of a run and give its directory."""
    evals = evals_of_run(root, EvalSpec(run, questions=5))
    evals.write_config()
    evals.evaluate(step)
    return evals.leaf(step)


@contextmanager
def daemon(workstation: Workstation, *before: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `harvestd run`, after the words of `before`; killed at the end of the body if it still runs."""
    arguments = [*before, *command("run", "-c", workstation.config, "--log-format", "json")]
    with workstation.output_file.open("wb") as out:
        process = subprocess.Popen(arguments, stdout=out, stderr=subprocess.STDOUT, env=environment())
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def told(workstation: Workstation, event: str) -> list[dict[str, Any]]:
    """Return the events of one name that the daemon has told so far."""
    lines = [line for line in workstation.output_file.read_text().splitlines() if line.startswith("{")]
    return [each for each in map(json.loads, lines) if each["event"] == event]


def converges(workstation: Workstation, *writers: RunWriter) -> None:
    """Make a pass that must bring everything home, and look whether all is in order then."""
    done = harvestd_command("once", "-c", workstation.config)
    assert done.code == ExitCode.OK, done.err
    assert all(workstation.follows(writer)() for writer in writers)
    assert workstation.catalogue("SELECT * FROM intents") == []
    workstation.audit()


async def test_full_disk_below_the_catalogue_stops_publishing(workstation: Workstation) -> None:
    """Without room for its catalogue the daemon publishes nothing more, and says so once; with room all comes."""
    workstation.state = workstation.data.with_name("state")
    boxes = [workstation.add_box(name) for name in ("gpu-a", "gpu-b")]
    writers = [write_run(box.root, run) for box, run in zip(boxes, (RUN, OTHER), strict=True)]
    with small_disk(workstation.state, 4 * MIB) as disk:
        workstation.settings()
        with daemon(workstation) as process:
            await until(lambda: all(workstation.follows(writer)() for writer in writers))
            fill(disk / "ballast")
            assert free_on(disk) == 0
            for box, run in zip(boxes, (RUN, OTHER), strict=True):
                write_leaf(box.root, run=run)
            await until(lambda: "disk.low" in workstation.output_file.read_text())
            fired(24)
            assert not list(workstation.data.glob("*/eval_results/*/*/*/*/*"))
            (disk / "ballast").unlink()
            await until(lambda: len(list(workstation.data.glob("*/eval_results/*/*/*/*/run_meta.json"))) == 2)
            assert process.poll() is None
            process.send_signal(signal.SIGTERM)
            await until(lambda: process.poll() is not None)
        assert process.returncode == ExitCode.OK
        assert workstation.output_file.read_text().count("disk.low") == 1
        workstation.audit()


async def test_failed_sync_publishes_nothing_and_is_never_tried_again(workstation: Workstation) -> None:
    """The kernel fails an fsync: that file is not published, nor synced again; the next start fetches it anew."""
    strace = require_strace()
    box = workstation.add_box()
    writer = write_run(box.root)
    await workstation.once()
    leaf = write_leaf(box.root)
    trace = workstation.config.with_name("trace")
    # Each thread counts for itself; what stands already needs no sync, so the first one is a temporary's.
    inject = ["-e", "trace=fsync,renameat2", "-e", "inject=fsync:error=EIO:when=1"]
    with daemon(workstation, strace, "-f", "-y", "-o", str(trace), *inject) as process:
        await until(lambda: process.poll() is not None)
    lines = trace.read_text().splitlines()
    failed = [found[1] for line in lines if "(INJECTED)" in line and (found := re.search(r"fsync\(\d+<([^>]*)>", line))]
    temporaries = [path for path in failed if "/.harvestd/staging/" in path]
    assert temporaries, failed
    fired(25)
    for path in temporaries:
        assert len([line for line in lines if "fsync(" in line and f"<{path}>" in line]) == 1
        assert not [line for line in lines if "renameat2(" in line and f'"{Path(path).name}"' in line]
    assert process.returncode == ExitCode.PARTIAL
    output = workstation.output_file.read_text()
    assert "can't sync a temporary: Input/output error" in output
    assert "Traceback" not in output
    home = workstation.training(RUN.name).with_name("eval_results") / leaf.relative_to(box.root / "eval_runs")
    assert not (home / "metrics.csv").exists()
    converges(workstation, writer)
    assert (home / "metrics.csv").read_bytes() == (leaf / "metrics.csv").read_bytes()


def highest_descriptor(process: subprocess.Popen[bytes]) -> int:
    """Return the highest number of the descriptors that a process has open."""
    return max(int(path.name) for path in Path(f"/proc/{process.pid}/fd").iterdir())


def limit_descriptors(process: subprocess.Popen[bytes], most: int) -> tuple[int, int]:
    """Let a process have descriptors below `most` only, beside those that it has; gives the limits before."""
    before = resource.prlimit(process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(process.pid, resource.RLIMIT_NOFILE, (most, before[1]))
    return before


async def test_without_descriptors_the_daemon_backs_off(workstation: Workstation) -> None:
    """No descriptor can be had at all: no crash, nobody is quarantined for it, and all comes once there are some."""
    boxes = [workstation.add_box(name) for name in ("gpu-a", "gpu-b")]
    writers = [write_run(box.root, run) for box, run in zip(boxes, (RUN, OTHER), strict=True)]
    workstation.settings()
    with daemon(workstation) as process:
        await until(lambda: all(workstation.follows(writer)() for writer in writers))
        before = limit_descriptors(process, 3)
        write_leaf(boxes[0].root)
        writers[1].log_step(4)
        await until(lambda: {each["host"] for each in told(workstation, "host.lost")} == {"gpu-a", "gpu-b"})
        assert "Too many open files" in workstation.output_file.read_text()
        fired(26)
        assert not list(workstation.data.glob("*/eval_results/*/*/*/*/metrics.csv"))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        await until(lambda: list(workstation.data.glob("*/eval_results/*/*/*/*/run_meta.json")))
        await until(workstation.follows(writers[1]))
        assert len(told(workstation, "host.lost")) == 2
        assert not told(workstation, "host.quarantined")
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None)
    assert process.returncode == ExitCode.OK
    assert "Traceback" not in workstation.output_file.read_text()
    converges(workstation, *writers)


async def test_a_reader_of_the_output_that_pauses_stops_nothing(workstation: Workstation) -> None:
    """Nobody reads the daemon's output any more: hosts are followed as before, and SIGTERM ends it in time."""
    writer = write_run(workstation.add_box().root)
    workstation.settings()
    arguments = command("run", "-c", workstation.config, "--log-format", "json", "--log-level", "debug")
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, env=environment()) as process:  # noqa: ASYNC220  (returns)
        assert process.stdout is not None
        fcntl.fcntl(process.stdout, fcntl.F_SETPIPE_SZ, 4096)
        try:
            await until(workstation.follows(writer), 60)
            for step in range(4, 24):
                writer.log_step(step)
                write_leaf(workstation.boxes["gpu-a"].root, step)
                await until(workstation.follows(writer), 60)
            # Its pipe is full: it would be at its first lines still.
            poll = select.poll()
            poll.register(process.stdout, select.POLLIN)
            assert poll.poll(0)
            process.send_signal(signal.SIGTERM)
            await until(lambda: process.poll() is not None, 30)
            assert process.returncode == ExitCode.OK
            assert b"service.stopped" not in process.stdout.read()
        finally:
            process.kill()


@pytest.mark.parametrize("limits", [(256, 4096), (256, 256)], ids=["soft", "hard"])
async def test_many_small_files_need_few_descriptors(workstation: Workstation, limits: tuple[int, int]) -> None:
    """Two hosts show 300 files each, and evals that belong to 60 experiments: no host is lost for want of descriptors.

    The daemon raises its soft limit, and where the hard one is as low, it stages fewer files at a time.
    """
    boxes = [workstation.add_box(name) for name in ("gpu-a", "gpu-b")]
    for number in range(60):
        write_run(boxes[number % 2].root, RunSpec(timestamp=f"2025-08-22_{3 + number // 60:02}-{number % 60:02}-43"))
    for box, run in zip(boxes, (RUN, OTHER), strict=True):
        write_run(box.root, run)
        evals = evals_of_run(box.root, EvalSpec(run, questions=2))
        evals.write_config()
        for step in range(100):
            evals.evaluate(step)
    base = base_evals(boxes[0].root, EvalSpec(RUN, questions=2))
    base.write_config()
    base.evaluate("base")
    workstation.settings()
    with daemon(workstation) as process:
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, limits)
        fired(26)
        # Each experiment has its own copy of the base model's.
        await until(lambda: len(list(workstation.data.rglob("run_meta.json"))) == 2 * 100 + 62, seconds=120)
        assert not told(workstation, "host.lost")
        assert not told(workstation, "host.failed")
        process.send_signal(signal.SIGTERM)
        await until(lambda: process.poll() is not None)
    assert process.returncode == ExitCode.OK
    workstation.audit()


async def test_host_that_needs_too_many_descriptors_stops_no_other(workstation: Workstation) -> None:
    """One host's batch finds no descriptors: it backs off with nothing half done, while another one is followed."""
    boxes = [workstation.add_box(name) for name in ("gpu-a", "gpu-b")]
    writers = [write_run(box.root, run) for box, run in zip(boxes, (RUN, OTHER), strict=True)]
    workstation.settings()
    with daemon(workstation) as process:
        await until(lambda: all(workstation.follows(writer)() for writer in writers))
        before = limit_descriptors(process, highest_descriptor(process) + 24)
        evals = evals_of_run(boxes[0].root, EvalSpec(RUN, questions=2))
        evals.write_config()
        for step in range(40):
            evals.evaluate(step)
        await until(lambda: told(workstation, "host.lost"))
        (lost,) = told(workstation, "host.lost")
        assert lost["host"] == "gpu-a"
        assert "Too many open files" in lost["error"]
        fired(26)
        writers[1].log_step(4)
        await until(workstation.follows(writers[1]))
        resource.prlimit(process.pid, resource.RLIMIT_NOFILE, before)
        leaves = "*/eval_results/*/*/*/*/run_meta.json"
        await until(lambda: len(list(workstation.data.glob(leaves))) == 40, seconds=40)
        assert {each["host"] for each in told(workstation, "host.lost")} == {"gpu-a"}
    converges(workstation, *writers)
