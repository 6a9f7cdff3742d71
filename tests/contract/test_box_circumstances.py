"""What a box says for a verdict, by either way of reading it: the probe looks, SFTP alone can't."""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import timedelta
from pathlib import Path

import anyio
import asyncssh
import pytest

from contract.connected import box_at, fill, probes, sftp_program, training, watching
from harvestd.convention.scan.snapshot import Tree, TreeKind
from harvestd.remote.api import Box, Limits
from harvestd.safety.check import activity_on
from harvestd.safety.inputs import Carrier, CarrierState, Checkout, Circumstances
from harvestd.safety.verdict import ReasonKind
from support.openssh import OpenSSHFactory, OpenSSHServer
from support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

LATELY = timedelta(hours=1)
NOW = timedelta()
"""Asks for the machine and its activity alone: no file changed within no time, so that none is searched for."""
TIMEOUT = 15.0


def state_of(*places: Path) -> dict[str, tuple[int, ...]]:
    """Return all times and sizes of what lies below, but for what sshd itself writes."""
    found = [each for place in places for each in (place, *place.rglob("*")) if each.name not in {"sshd.log", "box"}]
    return {str(each): (s.st_size, s.st_ino, s.st_mtime_ns, s.st_ctime_ns) for each in found for s in [each.lstat()]}


def device_of(place: Path) -> int:
    """Return the number of the device that a place lies on."""
    return place.stat().st_dev


async def test_what_speaks_against_switching_it_off(server: OpenSSHServer, root: Path, method: str) -> None:
    """The probe tells of files, checkouts and devices and leaves all as it was; SFTP says that it does not know."""
    device = device_of(root)
    fill(root, {"run/config.yaml": b"a: 1\n"})
    home = server.directory
    (home / "notes.md").write_bytes(b"nowhere else")
    (home / "code").mkdir()
    for words in (["init", "-q"], ["config", "user.name", "a"], ["config", "user.email", "a@example.org"]):
        subprocess.run(["git", *words], cwd=home / "code", check=True)  # noqa: ASYNC221  (short, and whichever)
    (home / "code/train.py").write_bytes(b"new")
    before = state_of(home, root)
    missing = Tree(str(root / "missing"), "eval_runs", TreeKind.EVAL)
    async with box_at(server, watching(training(root), missing)) as box:
        await box.scan()
        reported = await box.circumstances(LATELY)
        again = await box.circumstances(LATELY)
        assert not (await box.scan()).changed
    assert state_of(home, root) == before
    if method == "sftp":
        assert reported == again == Circumstances(unclear=reported.unclear)
        assert "harvestd doctor" in reported.unclear
        return
    assert reported.hostname == socket.gethostname()
    assert reported.devices == {str(root): device}
    assert reported.checkouts == again.checkouts == (Checkout(str(home / "code"), 1, 0),)
    assert reported.outside is not None
    # Whether it is whole hangs on this machine's /tmp, which may hold more than is looked through.
    assert str(home / "notes.md") in reported.outside.newest
    assert not [place for place in reported.outside.newest if place.startswith(str(root / "training_runs"))]
    assert reported.outside.size >= len(b"nowhere else")


async def test_questions_side_by_side_keep_their_answers(server: OpenSSHServer, root: Path) -> None:
    """Who asks for processes while another waits for circumstances gets a number of processes."""
    async with box_at(server, watching(training(root))) as box:
        processes: list[int | None] = []

        async def ask() -> None:
            processes.append(await box.gpu_processes())

        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
            reported = await box.circumstances(NOW)
        assert processes == [reported.gpu_processes] * 3
        assert (await box.facts()).free_bytes


def person_at(server: OpenSSHServer) -> AbstractAsyncContextManager[asyncssh.SSHClientConnection]:
    """Log in beside harvestd."""
    return asyncssh.connect(
        server.address,
        server.port,
        username=server.user,
        client_keys=[str(server.client_key)],
        known_hosts=None,
        config=None,
        agent_path=None,
    )


async def _counts(box: Box, part: str, begun: Callable[[], AbstractAsyncContextManager[object]]) -> bool:
    """Return whether the box counts one more of something while it is begun.

    Other tests' processes are on the machine, too: what ends just then hides what begins, so it is tried again.
    """
    for _ in range(5):
        before = getattr(await box.circumstances(NOW), part)
        assert before is not None
        async with begun():
            with anyio.move_on_after(TIMEOUT):
                while (getattr(await box.circumstances(NOW), part) or 0) <= before:
                    pass
                return True
    return False


async def test_people_and_their_transfers_are_seen_and_ours_are_not(
    openssh_factory: OpenSSHFactory, root: Path
) -> None:
    """A shell with a terminal is a log-in, an SFTP session of another connection a transfer; none of it is us."""
    server = openssh_factory(extra_config=[f"Subsystem sftp {sftp_program()}"])
    fill(root, {"run/model": b"1"})
    async with box_at(server, watching(training(root))) as box, person_at(server) as person:

        @asynccontextmanager
        async def shell() -> AsyncIterator[None]:
            async with person.create_process("sleep 1000", term_type="xterm") as process:
                yield
                process.terminate()

        @asynccontextmanager
        async def transfer() -> AsyncIterator[None]:
            model = str(root / "training_runs/run/model")
            async with person.start_sftp_client() as files, files.open(model, "rb"):
                yield

        assert await _counts(box, "log_ins", shell)
        assert await _counts(box, "transfers", transfer)


@pytest.fixture
def program(tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Run programs of any name, which end with the test."""
    running: list[subprocess.Popen[bytes]] = []

    def run(name: str, like: str, *words: str) -> subprocess.Popen[bytes]:
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(str(shutil.which(like)), place)
        running.append(subprocess.Popen([str(place), *words], stdout=subprocess.DEVNULL, start_new_session=True))
        return running[-1]

    yield run
    for each in running:
        each.kill()
        each.wait()


_CONNECTIONS = """
import json, sys
from harvestd.remote.probe.program.sessions import processes_now, without_terminal
processes = processes_now()
above = {*processes.above(int(sys.argv[1])), int(sys.argv[1])}
print(json.dumps([each for each in without_terminal(processes, "/proc") if each in above]))
"""


def _connections_of(pid: int) -> list[int]:
    """Return those connections without a terminal, by the probe's own rule, below which a process runs."""
    # In a process of its own: what this one started, the servers of the tests too, counts as its own.
    command = [sys.executable, "-c", _CONNECTIONS, str(pid)]
    output = subprocess.run(
        command, check=True, capture_output=True, env=os.environ | {"PYTHONPATH": ":".join(sys.path)}
    )
    found: list[int] = json.loads(output.stdout)
    return found


async def test_an_editor_counts_as_a_person_while_its_connection_lives(
    openssh_factory: OpenSSHFactory, root: Path, program: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """Its server runs detached and the connection has no terminal; harvestd's own connection is never taken for one.

    Other programs of this machine may be connected as well, so that a number alone would prove nothing.
    """
    server = openssh_factory()
    async with box_at(server, watching(training(root))) as box:
        program(".vscode-server/cli/servers/Stable-1/server/node", "sleep", "1000")
        await box.scan()
        assert [_connections_of(pid) for pid in probes(server)] == [[]]
        async with person_at(server) as person, person.create_process("echo $$; exec cat") as shell:
            pid = int(await shell.stdout.readline())
            (connection,) = _connections_of(pid)
            assert ((await box.circumstances(timedelta())).log_ins or 0) >= 1
        await until(lambda: not Path(f"/proc/{connection}").exists())
        assert _connections_of(pid) == []


async def test_a_program_that_carries_files_counts_while_it_does(
    openssh_factory: OpenSSHFactory, root: Path, program: Callable[..., subprocess.Popen[bytes]]
) -> None:
    """One that sleeps is passed by; one that moves bytes is named with its process and why."""
    server = openssh_factory()
    idle = program("idle/rclone", "sleep", "1000")
    async with box_at(server, watching(training(root))) as box:
        reported = await box.circumstances(timedelta())
        assert idle.pid not in {each.pid for each in reported.carriers}
        busy = program("busy/rclone", "yes")
        reported = await box.circumstances(timedelta())
    found = {each.pid: each for each in reported.carriers}
    assert found[busy.pid] == Carrier("rclone", busy.pid, CarrierState.MOVES)
    assert idle.pid not in found
    assert reported.transfers is not None
    assert reported.without({"rclone"}).transfers == reported.transfers - 1


async def test_a_home_that_cannot_be_told_is_not_whole(openssh_factory: OpenSSHFactory, root: Path) -> None:
    """What could not be looked through is not taken for empty."""
    server = openssh_factory(extra_config=['ForceCommand HOME=/; export HOME; eval "$SSH_ORIGINAL_COMMAND"'])
    async with box_at(server, watching(training(root))) as box:
        reported = await box.circumstances(LATELY)
    assert reported.outside is not None
    assert not reported.outside.whole
    assert os.uname().nodename == reported.hostname


async def test_what_took_too_long_or_failed_is_in_the_reason(
    openssh_factory: OpenSSHFactory, root: Path, tmp_path: Path
) -> None:
    """Each program has its part of `limits.inspect_time`, which the reason names; its own words say why it refuses."""
    programs = {
        "git": "exec sleep 1000",
        "nvidia-smi": "printf 'Failed to initialize NVML:\\033[31m mismatch'; exit 18",
    }
    for name, text in programs.items():
        (tmp_path / "programs").mkdir(exist_ok=True)
        (tmp_path / "programs" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "programs" / name).chmod(0o755)
    setting = f"ForceCommand PATH={tmp_path}/programs:$PATH; export PATH; "
    server = openssh_factory(extra_config=[setting + 'eval "$SSH_ORIGINAL_COMMAND"'])
    (server.directory / "code/.git").mkdir(parents=True)
    limits = Limits(inspect_time=timedelta(seconds=10))
    async with box_at(server, watching(training(root)), limits) as box:
        reported = await box.circumstances(LATELY)
    assert reported.checkouts is None
    assert str(server.directory / "code") in reported.unclear
    assert "within 3.5 s, see limits.inspect_time" in reported.unclear
    assert reported.gpu_processes is None
    reasons = {reason.kind: reason.detail for reason in activity_on(reported)}
    assert "Failed to initialize NVML:" in reasons[ReasonKind.GPU_BUSY]
    assert "status 18" in reasons[ReasonKind.GPU_BUSY]
    assert "\033" not in reasons[ReasonKind.GPU_BUSY]
    assert "git" not in reasons[ReasonKind.GPU_BUSY]
