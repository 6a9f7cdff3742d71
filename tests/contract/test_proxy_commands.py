"""A ProxyCommand is a connection like any other: metered, bounded in time, and gone when the connection is."""

import asyncio
import gc
import sys
from asyncio.base_subprocess import BaseSubprocessTransport as _Transport
from collections.abc import AsyncIterator
from datetime import timedelta
from pathlib import Path

import anyio
import asyncssh
import pytest

from contract.connected import Pins, outcome, target_for
from harvestd.errors import HostQuarantined
from harvestd.remote.ssh.connect import connect
from harvestd.remote.ssh.errors import Unreachable
from harvestd.remote.ssh.target import Target
from support.openssh import OpenSSHFactory, generate_key
from support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]

_CARRY = """
import os, socket, sys, threading
open(sys.argv[2], "w").write(str(os.getpid()))
link = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
def up():
    while data := os.read(0, 65536):
        link.sendall(data)
    link.shutdown(socket.SHUT_WR)
threading.Thread(target=up, daemon=True).start()
while data := link.recv(65536):
    os.write(2, b"chatty\\n")
    os.write(1, data)
"""


def _through(directory: Path, target: Target, port: int) -> Target:
    """Return the target reached by a program that carries bytes, and chatters on its standard error."""
    script = directory / "carry.py"
    script.write_text(_CARRY)
    config = directory / "config"
    config.write_text(f"Host *\n  ProxyCommand {sys.executable} {script} {port} {directory / 'pid'}\n")
    return Target(
        target.identity,
        "gpu-a.invalid",
        0,
        user=target.user,
        identity_files=target.identity_files,
        agent=False,
        config_files=(config,),
        connect_timeout=target.connect_timeout,
    )


@pytest.fixture(autouse=True)
async def _processes_end() -> AsyncIterator[None]:
    """Wait until each process of a test has ended and its transport is closed: the event loop ends with the test."""
    yield
    await until(lambda: not [each for each in gc.get_objects() if isinstance(each, _Transport) and not each._closed])


def _lives(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2][:1] not in {"Z", "X"}
    except (FileNotFoundError, ProcessLookupError):
        return False


async def test_it_ends_with_the_connection(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """The program runs while the connection does; what it says on its standard error goes nowhere."""
    server = openssh_factory()
    async with connect(_through(tmp_path, target_for(server), server.port), Pins()) as connection:
        pid = (tmp_path / "pid").read_text()
        assert _lives(pid)
        big = await connection.ssh.run("head -c 3000000 /dev/zero", encoding=None)
        assert isinstance(big.stdout, bytes)
        assert len(big.stdout) == 3_000_000
    await until(lambda: not _lives(pid))


async def test_it_is_ended_when_it_leads_nowhere(tmp_path: Path) -> None:
    """A program that does not come to an SSH server costs the connect time-out, and is ended with what it started."""
    config, pid = tmp_path / "config", tmp_path / "pid"
    config.write_text(f"Host *\n  ProxyCommand sh -c 'echo waiting >&2; echo $$ > {pid}; sleep 1000'\n")
    key = generate_key(tmp_path / "key")
    target = Target(
        "gpu-x", "gpu-x.invalid", config_files=(config,), identity_files=(key,), connect_timeout=timedelta(seconds=3)
    )
    error = await outcome(target)
    assert isinstance(error, Unreachable)
    assert "ProxyCommand" in str(error)
    await until(lambda: not _lives(pid.read_text().strip()))


class _Flooding(asyncssh.SSHServer):
    """Lets anybody in, and then never stops talking."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002  (asyncssh's signature)
        return False

    def auth_completed(self) -> None:
        asyncio.get_running_loop().call_soon(self._talk)

    def _talk(self) -> None:
        if not self._connection.is_closed():
            for _ in range(200):
                self._connection.send_debug("x" * 1000)
            asyncio.get_running_loop().call_later(0.001, self._talk)


async def test_a_flood_through_it_is_cut_off(tmp_path: Path) -> None:
    """What comes through a program is counted as what comes from a socket is."""
    key = generate_key(tmp_path / "key")
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen("127.0.0.1", 0, server_factory=_Flooding, server_host_keys=[host_key]) as server:
        target = Target("liar", "127.0.0.1", identity_files=(key,), agent=False, user="me")
        async with connect(_through(tmp_path, target, server.get_port()), Pins()) as connection:
            with anyio.fail_after(60):
                await connection.wait_closed()
            assert isinstance(connection.lost(), HostQuarantined)
