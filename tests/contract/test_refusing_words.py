"""What a host says in refusing reaches the operator, wherever it says it: escaped, cut, with a hint that fits."""

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest

from contract.connected import Pins, outcome, target_for, training, watching
from harvestd.errors import HarvestError, HostQuarantined, Retry
from harvestd.remote.box import Limits
from harvestd.remote.connecting import connect
from harvestd.remote.failures import AuthenticationRefused, Unreachable
from harvestd.remote.opening import open_box
from harvestd.remote.target import Target
from support.openssh import OpenSSHFactory, OpenSSHServer, generate_key

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
