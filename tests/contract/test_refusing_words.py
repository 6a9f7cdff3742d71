"""What a host says in refusing reaches the operator, wherever it says it: escaped, cut, with a hint that fits."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import anyio.to_thread
import asyncssh
import pytest

from contract.connected import Pins, outcome, sftp_program, target_for, training, watching
from harvestd.errors import HarvestError, HostQuarantined, Retry
from harvestd.remote.api import Limits
from harvestd.remote.open import open_box
from harvestd.remote.ssh.connect import connect
from harvestd.remote.ssh.errors import AuthenticationRefused, Unreachable
from harvestd.remote.ssh.target import Target
from support.command import harvestd_command
from support.house import Workstation
from support.openssh import OpenSSHFactory, OpenSSHServer, generate_key
from support.waiting import events, until

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def _opened(server: OpenSSHServer, root: Path) -> HostQuarantined:
    """Return why a host that can be logged in to can't be read."""
    with pytest.raises(HostQuarantined) as caught:
        async with (
            connect(target_for(server), Pins()) as connection,
            open_box(connection, watching(training(root)), Limits()),
        ):
            pass
    return caught.value


async def _answered_by(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[None, None, None]], directory: Path
) -> HarvestError | None:
    """Return the error for a host that is served so."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await serve(reader, writer)
        writer.close()

    key = generate_key(directory / "key")
    async with await asyncio.start_server(handle, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        return await outcome(Target("gpu-x", "127.0.0.1", port, identity_files=(key,), agent=False))


async def test_a_banner_is_in_the_refusal(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """What is shown before a log-in that fails often says why it does."""
    banner = tmp_path / "banner"
    banner.write_text("Access ended on Friday.\033[31m Ask ops.\n")
    server = openssh_factory(extra_config=[f"Banner {banner}"])
    error = await outcome(target_for(server, identity_files=(generate_key(tmp_path / "wrong"),)))
    assert isinstance(error, AuthenticationRefused)
    assert "Access ended on Friday." in str(error)
    assert "\033" not in str(error)
    assert "own words" in error.hint


@pytest.mark.parametrize(
    "lines",
    [
        ["PubkeyAuthentication no", "PasswordAuthentication yes"],
        ["PasswordAuthentication yes", "AuthenticationMethods publickey,password"],
    ],
    ids=["no keys", "a second factor"],
)
async def test_a_host_that_wants_more_than_a_key_is_told_from_a_wrong_key(
    lines: list[str], openssh_factory: OpenSSHFactory
) -> None:
    """Where a password or a second factor is wanted the hint does not send the operator to look for another key."""
    error = await outcome(target_for(openssh_factory(extra_config=lines)))
    assert isinstance(error, AuthenticationRefused)
    assert "AuthenticationMethods" in error.hint
    assert "ssh-copy-id" not in error.hint


async def test_what_is_said_before_ssh_begins_is_in_the_error(tmp_path: Path) -> None:
    """Since 9.8 sshd tells an address that it bans so in plain text, and hangs up."""

    async def serve(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"Not allowed at this time\x07\r\n")
        await writer.drain()

    error = await _answered_by(serve, tmp_path)
    assert isinstance(error, Unreachable)
    assert "Not allowed at this time" in str(error)
    assert "\x07" not in str(error)
    assert "PerSourcePenalties" in error.hint


async def test_a_version_line_that_is_no_text_is_the_hosts_doing(tmp_path: Path) -> None:
    """A server that breaks the protocol is not taken for a configuration that can't be used."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-\xff\xfe\r\n")
        await writer.drain()
        await reader.read()

    error = await _answered_by(serve, tmp_path)
    assert isinstance(error, Retry)
    assert "configuration" not in f"{error} {error.hint}"


async def test_what_a_forced_command_prints_is_in_the_error(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """Cloud images answer root so, on standard output; the hint names the setting."""
    server = openssh_factory()
    server.revoke()
    public = server.client_key.with_name("client_key.pub").read_text()
    words = 'Please login as the user \\"ubuntu\\" rather than the user \\"root\\".'
    (server.directory / "authorized_keys").write_text(f"command=\"echo '{words}'; exit 142\" {public}")
    error = await _opened(server, tmp_path)
    assert "Please login as the user" in str(error)
    assert "ssh.user" in error.hint


async def test_what_a_login_shell_prints_is_in_the_error(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """An account that is closed says so, and Python is not what is missing."""
    closed = "ForceCommand echo 'This account is currently not available.'; exit 1"
    error = await _opened(openssh_factory(extra_config=[closed]), tmp_path)
    assert "currently not available" in str(error)
    assert "Python 3.6" not in error.hint


class _Refusing(asyncssh.SSHServer):
    """Refuses with a disconnect message of SSH, with OpenSSH's code: at the log-in, after it, or for each session."""

    words = "Maintenance\033[31m until noon"

    def __init__(self, moment: str) -> None:
        self._moment = moment

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._connection = conn

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002  (asyncssh's signature)
        if self._moment == "before":
            self._connection.disconnect(asyncssh.DISC_PROTOCOL_ERROR, self.words)
        return False

    def auth_completed(self) -> None:
        if self._moment == "after":
            asyncio.get_running_loop().call_soon(self._connection.disconnect, asyncssh.DISC_PROTOCOL_ERROR, self.words)

    def session_requested(self) -> bool:
        raise asyncssh.ChannelOpenError(asyncssh.OPEN_ADMINISTRATIVELY_PROHIBITED, self.words)


@pytest.mark.parametrize("moment", ["before", "after", "session"])
async def test_a_reason_in_ssh_s_own_messages_is_in_the_error(moment: str, tmp_path: Path) -> None:
    """A disconnect and a refused session carry words; a session that is forbidden is no matter of MaxSessions."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    key = generate_key(tmp_path / "key")
    async with asyncssh.listen(
        "127.0.0.1", 0, server_factory=lambda: _Refusing(moment), server_host_keys=[host_key]
    ) as server:
        target = Target("gpu-x", "127.0.0.1", server.get_port(), user="me", identity_files=(key,), agent=False)
        with pytest.raises(Retry) as caught:
            async with (
                connect(target, Pins()) as connection,
                open_box(connection, watching(training(tmp_path)), Limits()),
            ):
                pass
    assert "Maintenance" in str(caught.value)
    assert "until noon" in str(caught.value)
    assert "\033" not in str(caught.value)
    if moment == "session":
        assert "authorized_keys" in caught.value.hint


async def test_why_the_probe_does_not_run_is_told_where_sftp_does(workstation: Workstation) -> None:
    """Such a host is read by SFTP, which can't tell enough for a verdict: its own words say how to change that."""
    words = "echo 'python3:\\033[31m Disk quota exceeded' >&2; exit 127"
    program = sftp_program()
    box = workstation.add_box(
        extra_config=[
            f"Subsystem sftp {program}",
            f'ForceCommand case "$SSH_ORIGINAL_COMMAND" in *sftp-server*) exec {program};; esac; {words}',
        ]
    )
    async with workstation.running() as event_log:
        await until(lambda: events(event_log, "host.connected", host=box.server.name, method="sftp"))
        (event,) = events(event_log, "host.connected")
    assert "Disk quota exceeded" in str(event["probe_error"])
    assert "\033" not in str(event["probe_error"])
    doctor = await anyio.to_thread.run_sync(lambda: harvestd_command("-c", workstation.config, "doctor", "--json"))
    (finding,) = (
        each for host in doctor.document["examined"] for each in host["findings"] if each["what"] == "read by"
    )
    assert "SFTP alone" in finding["said"]
    assert "Disk quota exceeded" in finding["said"]
    assert finding["hint"]
