"""The test support's OpenSSH servers behave as the boxes that they stand for."""

import os
import signal
import subprocess
from pathlib import Path

import anyio
import asyncssh
import pytest

from support.openssh import OpenSSHFactory, OpenSSHServer, find_sshd, generate_key, require_sshd
from support.waiting import until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def connect(server: OpenSSHServer, key: Path | None = None) -> asyncssh.SSHClientConnection:
    """Connect as the server's user; the host key is not checked here."""
    with anyio.fail_after(60):
        return await asyncssh.connect(
            server.address,
            server.port,
            username=server.user,
            client_keys=[str(key or server.client_key)],
            known_hosts=None,
            config=[],
            agent_path=None,
        )


async def until_gone(pid: int) -> None:
    """Wait until no process of that id runs (a zombie that waits for its parent does not run)."""
    with anyio.fail_after(60):
        while True:
            try:
                stat = await anyio.Path(f"/proc/{pid}/stat").read_text()
            except (FileNotFoundError, ProcessLookupError):
                return
            if stat.rpartition(")")[2].split()[0] == "Z":
                return
            await anyio.sleep(0.01)


async def test_runs_commands_and_serves_files(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A plain server runs a command with binary input and gives files over SFTP."""
    (tmp_path / "file").write_text("metrics")
    async with await connect(openssh_factory()) as connection:
        result = await connection.run("cat", input=b"\x00\xffdata", encoding=None)
        assert result.stdout == b"\x00\xffdata"
        async with connection.start_sftp_client() as sftp, sftp.open(os.fsencode(tmp_path / "file")) as file:
            assert await file.read() == "metrics"


async def test_sftp_only_refuses_commands(openssh_factory: OpenSSHFactory) -> None:
    """A server that allows SFTP alone answers SFTP and never runs the command that was asked for."""
    async with await connect(openssh_factory(sftp_only=True)) as connection:
        async with connection.start_sftp_client() as sftp:
            assert await sftp.exists(b"/")
        result = await connection.run("echo harvested", stdin=asyncssh.DEVNULL)
        assert "harvested" not in str(result.stdout)


async def test_kill_ends_sessions_and_commands(openssh_factory: OpenSSHFactory) -> None:
    """A killed box drops its connections and leaves no process, not even one that had left its session."""
    server = openssh_factory()
    connection = await connect(server)
    async with connection:
        result = await connection.run("setsid sleep 1000 >/dev/null 2>&1 & echo $!")
        orphan = int(str(result.stdout))
        # The shell tells its number before it has become what it starts: a process in exec shows no environment.
        await until(lambda: orphan in server.commands())
        master = server.pid
        await anyio.to_thread.run_sync(server.kill)
        with anyio.fail_after(60):
            await connection.wait_closed()
    await until_gone(orphan)
    await until_gone(master)
    assert not server.running
    with pytest.raises(ConnectionRefusedError):
        await connect(server)


async def test_restart_keeps_port_and_identity(openssh_factory: OpenSSHFactory) -> None:
    """A restarted server is the same host: port, host key and authorized keys stay."""
    server = openssh_factory()
    before = (server.port, server.host_key_fingerprint)
    await anyio.to_thread.run_sync(server.restart)
    assert (server.port, server.host_key_fingerprint) == before
    async with await connect(server):
        assert "Accepted publickey" in server.log_text()


async def test_changed_host_key_is_served(openssh_factory: OpenSSHFactory) -> None:
    """After a change of host key clients are shown the new one, at the same port."""
    server = openssh_factory()
    before = server.host_key_fingerprint
    await anyio.to_thread.run_sync(server.change_host_key)
    async with await connect(server) as connection:
        shown = connection.get_server_host_key()
        assert shown is not None
        assert shown.get_fingerprint() == server.host_key_fingerprint != before


async def test_revoked_key_is_refused(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A revoked key gets no new session; a key that is authorized later does."""
    server = openssh_factory()
    server.revoke()
    with pytest.raises(asyncssh.PermissionDenied):
        await connect(server)
    other = generate_key(tmp_path / "other")
    server.authorize(other)
    async with await connect(server, other):
        pass


async def test_options_replace_and_match_blocks_come_last(openssh_factory: OpenSSHFactory) -> None:
    """An extra option wins over the server's own, and a Match block does not swallow other options."""
    server = openssh_factory(extra_config=["Subsystem sftp /bin/false", "Match User *", "AllowTcpForwarding no"])
    async with await connect(server) as connection:
        with pytest.raises((asyncssh.SFTPError, asyncssh.ConnectionLost)):
            await connection.start_sftp_client()


async def test_servers_share_one_client_key(openssh_factory: OpenSSHFactory) -> None:
    """Two boxes of one test have ports and host keys of their own and let the same client in."""
    first, second = openssh_factory("a"), openssh_factory("b", host_key_types=("ecdsa", "ed25519"))
    assert first.client_key == second.client_key
    assert first.host_key_fingerprint != second.host_key_fingerprint
    async with await connect(first, second.client_key):
        pass


def test_bad_configuration_is_told(openssh_factory: OpenSSHFactory) -> None:
    """A server that can't start says why, in sshd's own words."""
    with pytest.raises(RuntimeError, match="Bad configuration option: Nonsense"):
        openssh_factory(extra_config=["Nonsense yes"])


def test_missing_sshd_fails_where_ci_is_set(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Without sshd tests are skipped loudly on a workstation, and fail in CI."""
    monkeypatch.setattr("support.openssh.find_sshd", lambda: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="openssh-server"):
        require_sshd()
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="openssh-server"):
        require_sshd()
    with pytest.raises(RuntimeError, match="openssh-server"):
        OpenSSHServer(tmp_path / "box").start()


def test_stop_leaves_foreign_processes_alone(openssh_factory: OpenSSHFactory) -> None:
    """Stopping a server ends nothing but what it started."""
    with subprocess.Popen(["sleep", "1000"]) as bystander:
        openssh_factory().stop()
        assert bystander.poll() is None
        bystander.send_signal(signal.SIGTERM)
    assert find_sshd() is not None
