"""A file whose reading hangs in the box's file system: told from a dead link, and it holds up nothing for good."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest
from msgspec.structs import replace

from contract.connected import probes
from harvestd.demo.content import RunSpec
from harvestd.demo.eval_content import EvalSpec
from harvestd.demo.writers import RunWriter, evals_of_run
from harvestd.harvest.context import Context
from harvestd.harvest.metrics import ProgressListener
from harvestd.settings import Settings
from support.house import Workstation
from support.openssh import OpenSSHServer
from support.strace import require_strace
from support.waiting import events, holds, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

RUN = RunSpec()
HUNG = RunSpec(timestamp="2025-08-21_09-12-05")
LATE = RunSpec(timestamp="2025-08-22_10-00-00")


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for answers, and for what hung, for seconds where it would be minutes."""
    real = Context.of

    def made(settings: Settings, monitor: ProgressListener) -> Context:
        context = real(settings, monitor)
        context.limits = replace(context.limits, answer_time=timedelta(seconds=2))
        return context

    monkeypatch.setattr(Context, "of", made)
    monkeypatch.setattr("harvestd.harvest.host.failures.STUCK_PAUSE", 3.0)


def _started(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


@asynccontextmanager
async def hanging(server: OpenSSHServer, path: Path, trace: Path) -> AsyncIterator[None]:
    """Let the program that runs on a box now hang for good where it reads from `path`."""
    (pid,) = probes(server)
    calls = "read,pread64,readv,preadv,sendfile"
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:delay_enter=600s"]
    command = [require_strace(), "-f", "-p", str(pid), "-P", str(path), *inject, "-o", str(trace)]
    with _started(command) as strace:
        try:
            assert strace.stderr is not None
            line = await anyio.to_thread.run_sync(strace.stderr.readline)
            assert "attached" in line, line
            yield
        finally:
            strace.kill()


@pytest.mark.usefixtures("impatient")
async def test_hanging_file_holds_up_no_other(workstation: Workstation, tmp_path: Path) -> None:
    """One leaf's file hangs: the link is kept, what was written before and after it comes, and it is tried again."""
    box = workstation.add_box()
    writer = RunWriter(box.root, RUN)
    writer.start()
    evals = evals_of_run(box.root, EvalSpec(RUN, questions=5))
    evals.write_config()
    hangs, other = evals.leaf(1) / "metrics.csv", evals.leaf(2) / "run_meta.json"
    async with workstation.running(ssh={"keepalive": "1s"}) as event_log:
        await until(workstation.stands(RUN.name, "config.yaml"))
        home = workstation.training(RUN.name).with_name("eval_results")
        here = home / hangs.relative_to(box.root / "eval_runs")
        trace = tmp_path / "trace"
        async with hanging(box.server, hangs, trace):
            evals.evaluate(1)
            await until(lambda: "read" in trace.read_text())
            evals.evaluate(2)
            writer.log_until(3)
            await until((home / other.relative_to(box.root / "eval_runs")).exists)
            await until(workstation.follows(writer))
            assert not here.exists()
            assert not events(event_log, "host.lost")
        await until(holds(here, hangs.read_bytes()))
        assert len(events(event_log, "host.connected")) == 1
    (told,) = events(event_log, "file.rejected")
    assert "though the link is alive" in str(told["error"])
    workstation.audit()


@pytest.mark.usefixtures("impatient")
@pytest.mark.parametrize("name", ["config.yaml", "train_log.jsonl"])
async def test_hanging_facts_of_one_run_hold_up_no_other(workstation: Workstation, tmp_path: Path, name: str) -> None:
    """What says what a run is hangs: the link is kept, all other runs come meanwhile, and it comes afterwards."""
    box = workstation.add_box()
    first, late = RunWriter(box.root, RUN), RunWriter(box.root, LATE)
    first.start()
    hung = RunWriter(box.root, HUNG)
    hangs = hung.train_log if name == "train_log.jsonl" else hung.directory / name
    async with workstation.running(ssh={"keepalive": "1s"}) as event_log:
        await until(workstation.stands(RUN.name, "config.yaml"))
        trace = tmp_path / "trace"
        async with hanging(box.server, hangs, trace):
            hung.start()
            hung.log_until(3)
            await until(lambda: "read" in trace.read_text())
            late.start()
            late.log_until(3)
            first.log_until(3)
            await until(workstation.follows(late), 60)
            await until(workstation.follows(first), 60)
            assert not workstation.stands(HUNG.name, *hangs.relative_to(hung.directory).parts)()
            assert not events(event_log, "host.lost")
            # What was read just before it in one go may be held up with it, and be named in its place.
            await until(lambda: any(HUNG.name in str(each["path"]) for each in events(event_log, "file.rejected")))
        await until(workstation.follows(hung), 60)
        assert len(events(event_log, "host.connected")) == 1
    workstation.audit()
