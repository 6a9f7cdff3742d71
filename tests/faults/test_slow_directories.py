"""One directory that takes longer to list than a host may be silent: progress within it is progress."""

import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import anyio.to_thread
import pytest

from contract.connected import box_at, names, probes, training, watching
from harvestd.errors import Retry
from harvestd.remote.api import Limits
from support.openssh import OpenSSHFactory, OpenSSHServer
from support.strace import require_strace

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

FILES = 600
DELAY = "25ms"
"""For each file: longer in all than `ANSWER_TIME`, which is longer than the program is silent while it is at work."""
ANSWER_TIME = timedelta(seconds=9)


@asynccontextmanager
async def slow(server: OpenSSHServer, trace: Path) -> AsyncIterator[None]:
    """Let each look of the program at a file take its time, as on a slow network file system."""
    (pid,) = probes(server)
    calls = "newfstatat,statx,stat,lstat"
    inject = ["-e", f"trace={calls}", "-e", f"inject={calls}:delay_enter={DELAY}"]
    command = [require_strace(), "-f", "-p", str(pid), *inject, "-o", str(trace)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as strace:  # noqa: ASYNC220  (starts at once)
        try:
            assert strace.stderr is not None
            line = await anyio.to_thread.run_sync(strace.stderr.readline)
            assert "attached" in line, line
            yield
        finally:
            strace.kill()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Make a root with a directory of many files."""
    (tmp_path / "localfs/training_runs/run").mkdir(parents=True)
    return tmp_path / "localfs"


async def test_a_directory_that_takes_long_is_listed_to_its_end(
    openssh_factory: OpenSSHFactory, root: Path, tmp_path: Path
) -> None:
    """However long it takes altogether, as long as the scan may; beyond that the error names the directory."""
    server = openssh_factory()
    async with box_at(server, watching(training(root)), Limits(answer_time=ANSWER_TIME)) as box:
        await box.scan()
        for number in range(FILES):
            (root / f"training_runs/run/{number}").touch()
        async with slow(server, tmp_path / "trace"):
            began = anyio.current_time()
            found = await box.scan()
            assert anyio.current_time() - began > ANSWER_TIME.total_seconds()
        assert len(names(found)) >= FILES


async def test_a_scan_without_end_names_where_it_was(
    openssh_factory: OpenSSHFactory, root: Path, tmp_path: Path
) -> None:
    """And which limit was reached."""
    server = openssh_factory()
    limits = Limits(answer_time=ANSWER_TIME, scan_time=ANSWER_TIME)
    async with box_at(server, watching(training(root)), limits) as box:
        await box.scan()
        for number in range(FILES):
            (root / f"training_runs/run/{number}").touch()
        async with slow(server, tmp_path / "trace"):
            with pytest.raises(Retry, match="training_runs/run") as caught:
                await box.scan()
        assert "limits.scan_time" in caught.value.hint
