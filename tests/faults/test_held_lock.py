"""A command holds the data root while a daemon, or a command that waits, starts: real processes and real locks."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import anyio.to_thread
import pytest

from harvestd.demo.content import RunSpec
from harvestd.demo.writers import RunWriter
from harvestd.errors import ExitCode
from harvestd.store.lock import HolderKind
from harvestd.telemetry.service_manager import READY
from support.command import environment, harvestd_command, running_command
from support.house import Workstation
from support.manager import Manager, place_in
from support.waiting import until

pytestmark = pytest.mark.anyio

LONG = 60.0
RUN = RunSpec(total_steps=2)
HOLD = """
import sys
from pathlib import Path
from harvestd.store.lock import DataRootLock, HolderKind
from harvestd.store.root import DataRoot
with DataRoot.open(Path(sys.argv[1])) as root, DataRootLock.take(root, HolderKind(sys.argv[2])):
    print("held", flush=True)
    sys.stdin.read()
"""


@contextmanager
def holding(data: Path, kind: HolderKind) -> Iterator[subprocess.Popen[str]]:
    """Hold the data root in a process of this kind for the body, or until its standard input is closed."""
    held = subprocess.Popen(
        [sys.executable, "-c", HOLD, data, kind], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env=environment(),
    )  # fmt: skip
    with held:
        assert held.stdout is not None
        assert held.stdout.readline() == "held\n"
        try:
            yield held
        finally:
            held.kill()


def release(held: subprocess.Popen[str]) -> None:
    """Let the process end by itself."""
    assert held.stdin is not None
    held.stdin.close()
    held.stdin = None
    held.wait(LONG)


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration without hosts."""
    path = tmp_path / "harvestd.toml"
    path.write_text(f'version = 1\ndata_root = "{tmp_path}/data"\njobs = {{ watch = false }}\n')
    return path


def told(output: Path) -> list[str]:
    """Return the names of the events that a daemon wrote there."""
    return [json.loads(line)["event"] for line in output.read_text().splitlines() if line.startswith("{")]


@pytest.mark.parametrize("kind", [HolderKind.COMMAND, HolderKind.ATTENDANT])
async def test_a_daemon_waits_for_a_command_to_end(tmp_path: Path, config: Path, kind: HolderKind) -> None:
    """It says so once, keeps its service manager from giving up, and begins when the command has ended."""
    output = tmp_path / "output"
    with (
        closing(Manager(place_in(tmp_path, abstract=False))) as manager,
        holding(tmp_path / "data", kind) as held,
        running_command("run", "-c", config, output=output, NOTIFY_SOCKET=manager.place) as daemon,
    ):
        await until(lambda: told(output) == ["service.waiting"], LONG)
        await until(lambda: manager.hear() and manager.words[0].startswith("EXTEND_TIMEOUT_USEC="), LONG)
        assert json.loads(output.read_text().splitlines()[-1])["pid"] == held.pid
        assert not manager.count(READY)
        await anyio.to_thread.run_sync(release, held)
        await until(lambda: manager.count(READY), LONG)
        daemon.terminate()
        assert await anyio.to_thread.run_sync(daemon.wait, LONG) == ExitCode.OK
    assert told(output) == ["service.waiting", "service.started", "service.stopping", "service.stopped"]


async def test_a_daemon_that_waits_can_be_stopped(tmp_path: Path, config: Path) -> None:
    """SIGTERM ends it in order while the command goes on."""
    output = tmp_path / "output"
    with (
        holding(tmp_path / "data", HolderKind.COMMAND) as held,
        running_command("run", "-c", config, output=output) as daemon,
    ):
        await until(lambda: told(output) == ["service.waiting"], LONG)
        daemon.send_signal(signal.SIGTERM)
        assert await anyio.to_thread.run_sync(daemon.wait, LONG) == ExitCode.OK
        assert held.poll() is None


def test_a_second_daemon_is_refused_at_once(tmp_path: Path, config: Path) -> None:
    """Exit code 7 with the first one's pid: waiting would hide a mistake."""
    with holding(tmp_path / "data", HolderKind.DAEMON) as held:
        done = harvestd_command("run", "-c", config)
    assert (done.code, done.out) == (ExitCode.LOCKED, "")
    assert f"process {held.pid}" in done.err


@pytest.mark.openssh
async def test_wait_takes_over_when_the_pass_has_ended(workstation: Workstation, tmp_path: Path) -> None:
    """`wait` beside a command that answers no questions becomes the daemon of its host afterwards, and fetches."""
    writer = RunWriter(workstation.add_box().root, RUN)
    writer.start()
    writer.log_until(2)
    writer.finish()
    workstation.settings(verdict={"idle_for": "10m"})
    output = tmp_path / "output"
    with (
        holding(workstation.data, HolderKind.COMMAND) as held,
        running_command("wait", "gpu-a", "--timeout", "10m", "-c", workstation.config, output=output) as waiting,
    ):
        busy = await anyio.to_thread.run_sync(
            lambda: harvestd_command("wait", "gpu-a", "--timeout", "1s", "--json", "-c", workstation.config)
        )
        assert busy.code == ExitCode.NOT_SAFE, busy.err
        assert [each["kind"] for each in busy.document["verdict"]["reasons"]] == ["not_looked_at"]
        assert waiting.poll() is None
        await anyio.to_thread.run_sync(release, held)
        await until(workstation.stands(RUN.name, "training_state", "step_final", "training_info.json"), LONG)
        assert waiting.poll() is None
    assert output.read_text() == ""
