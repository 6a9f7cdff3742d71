"""What lies beside keys, what only an agent can sign, and agents that do not answer; against real servers."""

import os
import threading
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import asyncssh
import pytest
import structlog.testing
from asyncssh.constants import MSG_EXT_INFO, MSG_SERVICE_ACCEPT
from asyncssh.sk_eddsa import _SKEd25519Key
from msgspec.structs import replace

from contract.connected import Pins, outcome, target_for
from harvestd.errors import Retry
from harvestd.remote.ssh import auth
from harvestd.remote.ssh.config import ResolvedConfig
from harvestd.remote.ssh.connect import connect
from harvestd.remote.ssh.errors import AuthenticationRefused, Unreachable
from harvestd.remote.ssh.target import Target
from support.agents import scripted_agent
from support.openssh import OpenSSHFactory, generate_key
from support.waiting import events

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def test_a_stale_public_half_is_left_out(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A KEY.pub of another key keeps nobody out: the key is offered, and a warning is given once."""
    server = openssh_factory()
    key = generate_key(tmp_path / "key")
    server.authorize(key)
    generate_key(tmp_path / "other").with_name("other.pub").rename(tmp_path / "key.pub")
    with structlog.testing.capture_logs() as event_log:
        assert await outcome(target_for(server, identity_files=(key,))) is None
        assert await outcome(target_for(server, identity_files=(key,))) is None
    (warning,) = events(event_log, "ssh.key_warning")
    assert "key.pub" in warning["message"]


async def test_a_stale_certificate_is_left_out(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A KEY-cert.pub of the previous key keeps nobody out either."""
    server = openssh_factory()
    authority, old = generate_key(tmp_path / "authority"), generate_key(tmp_path / "old")
    command = ["ssh-keygen", "-q", "-s", str(authority), "-I", "x", "-n", server.user, f"{old}.pub"]
    await anyio.run_process(command)
    key = generate_key(tmp_path / "key")
    server.authorize(key)
    old.with_name("old-cert.pub").rename(tmp_path / "key-cert.pub")
    with structlog.testing.capture_logs() as event_log:
        assert await outcome(target_for(server, identity_files=(key,))) is None
    (warning,) = events(event_log, "ssh.key_warning")
    assert "key-cert.pub" in warning["message"]


async def test_nonsense_beside_a_key_is_left_out(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """What lies beside a key may be anything."""
    server = openssh_factory()
    key = generate_key(tmp_path / "key")
    server.authorize(key)
    (tmp_path / "key.pub").write_bytes(b"\xff\x00 no key")
    (tmp_path / "key-cert.pub").write_bytes(b"ssh-ed25519-cert-v01@openssh.com AAAA")
    assert await outcome(target_for(server, identity_files=(key,))) is None


async def test_a_pipe_is_no_key(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """Whatever has the name of a key costs no more than that it is not offered."""
    server = openssh_factory()
    for name in ("pipe", "key.pub"):
        os.mkfifo(tmp_path / name)
    (tmp_path / "directory").mkdir()
    key = server.client_key.rename(tmp_path / "key")
    files = (tmp_path / "pipe", tmp_path / "directory", key)
    assert await outcome(target_for(server, identity_files=files)) is None
    error = await outcome(target_for(server, identity_files=files[:2]))
    assert isinstance(error, AuthenticationRefused)
    assert "pipe (is no file)" in str(error)


async def test_files_on_a_mount_that_hangs_cost_the_connect_timeout(
    openssh_factory: OpenSSHFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A host whose key can't be read in time is tried again later; a host beside it is connected to."""
    server = openssh_factory()
    end = threading.Event()
    real = auth.read_files

    def hanging(target: Target, config: ResolvedConfig) -> object:
        if target.called == "slow":
            end.wait(60)
        return real(target, config)

    monkeypatch.setattr(auth, "read_files", hanging)
    try:
        async with anyio.create_task_group() as tasks:
            slow: list[object] = []

            async def try_slow() -> None:
                target = target_for(server, identity="slow", connect_timeout=timedelta(seconds=3))
                slow.append(await outcome(target))

            tasks.start_soon(try_slow)
            assert await outcome(target_for(server)) is None
    finally:
        end.set()
    (error,) = slow
    assert isinstance(error, Unreachable)
    assert "keys to log in with were not read" in str(error)


def _security_key(path: Path) -> bytes:
    """Write the file of a hardware key; return its public half."""
    key = _SKEd25519Key.make_private((b"\x01" * 32, "ssh:", 1, b"handle", b""))
    path.write_bytes(key.export_private_key("openssh"))
    return bytes(key.public_data)


async def test_a_hardware_key_is_left_to_the_agent(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """The file of a FIDO key is not offered by itself; an agent that holds the key is asked to sign."""
    server = openssh_factory()
    blob = _security_key(tmp_path / "id_sk")
    alone = await outcome(target_for(server, identity_files=(tmp_path / "id_sk",)))
    assert isinstance(alone, AuthenticationRefused)
    assert "security key" in str(alone)
    server.authorize(_public_file(tmp_path / "id_sk.pub", blob))
    target = target_for(
        server,
        identity_files=(tmp_path / "id_sk",),
        agent=True,
        agent_socket=str(tmp_path / "agent"),
        connect_timeout=timedelta(seconds=3),
    )
    async with scripted_agent(tmp_path / "agent", [blob]) as agent:
        error = await outcome(target)
    assert agent.signatures == 1
    assert isinstance(error, Unreachable)
    assert "agent did not sign" in str(error)
    assert "touch" in error.hint


def _public_file(path: Path, blob: bytes) -> Path:
    key = asyncssh.public_key.decode_ssh_public_key(blob)
    path.write_bytes(key.export_public_key("openssh"))
    return path


async def test_an_agent_that_does_not_answer_holds_no_keys(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """It costs a part of the time-out once, is said once, and keys from files are offered all the same."""
    server = openssh_factory()
    target = target_for(server, agent=True, agent_socket=str(tmp_path / "mute"), connect_timeout=timedelta(seconds=8))
    async with scripted_agent(tmp_path / "mute", answers=False) as agent:
        with structlog.testing.capture_logs() as event_log:
            assert await outcome(target) is None
            assert await outcome(replace(target, identity="again")) is None
        assert agent.questions == 1
    assert len(events(event_log, "ssh.agent_silent")) == 1


async def test_a_silent_agent_is_named_where_its_keys_are_missing(
    openssh_factory: OpenSSHFactory, tmp_path: Path
) -> None:
    """An agent may wait for a person: the host is tried again then, and nobody is sent to look for another key."""
    target = target_for(
        openssh_factory(),
        agent=True,
        agent_socket=str(tmp_path / "mute"),
        identity_files=(),
        default_identity_files=(tmp_path / "none",),
        connect_timeout=timedelta(seconds=3),
    )
    wrong = generate_key(tmp_path / "wrong")
    async with scripted_agent(tmp_path / "mute", answers=False):
        alone = await outcome(target)
        refused = await outcome(replace(target, identity_files=(wrong,)))
    assert isinstance(alone, Retry)
    assert "did not answer within 1.5 s" in str(alone)
    assert "ssh-add -l" in alone.hint
    assert "ssh.connect_timeout" in alone.hint
    assert isinstance(refused, AuthenticationRefused)
    assert "did not answer within 1.5 s" in str(refused)


async def test_no_agent_where_one_was_is_no_trouble(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A socket that is gone means that there are no keys of an agent."""
    server = openssh_factory()
    assert await outcome(target_for(server, agent=True, agent_socket=str(tmp_path / "gone"))) is None


async def test_an_agent_s_further_keys_are_counted(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """Where an agent holds more keys than are offered, the error says so and how to name one."""
    server = openssh_factory()
    blobs = [asyncssh.generate_private_key("ssh-ed25519").public_data for _ in range(9)]
    wrong = generate_key(tmp_path / "wrong")
    target = target_for(server, identity_files=(wrong,), agent=True, agent_socket=str(tmp_path / "agent"))
    async with scripted_agent(tmp_path / "agent", blobs):
        error = await outcome(target)
    assert isinstance(error, AuthenticationRefused)
    assert "5 further keys of the agent" in str(error)


class _Server(asyncssh.SSHServer):
    """Lets EXT_INFO, which says which signatures it takes, go out as late as the protocol allows, or never."""

    says = True

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        send, held = conn.send_packet, list[tuple[Any, ...]]()

        def late(kind: int, *parts: bytes, **options: Any) -> None:  # noqa: ANN401  (asyncssh's own, handed on)
            if kind == MSG_EXT_INFO:
                held.append((kind, *parts))
                return
            if kind == MSG_SERVICE_ACCEPT and self.says:
                for packet in held:
                    send(*packet)
            send(kind, *parts, **options)

        conn.send_packet = late  # type: ignore[assignment, method-assign]

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002  (asyncssh's signature)
        return True


class _Mute(_Server):
    says = False


_NEW = ["rsa-sha2-512", "rsa-sha2-256", "ssh-ed25519"]


@pytest.mark.parametrize(
    ("factory", "accepted"),
    [(_Server, _NEW), (_Server, ["rsa-sha2-256"]), (_Mute, _NEW), (_Mute, ["ssh-rsa"])],
    ids=["told late", "told late, one only", "never told", "never told, and old"],
)
async def test_an_rsa_key_signs_as_the_server_wants(
    factory: type[_Server], accepted: list[str], tmp_path: Path
) -> None:
    """Whenever a server says which signatures it takes, if at all, an RSA key logs in."""
    key = generate_key(tmp_path / "rsa", "rsa")
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen(
        "127.0.0.1", 0, server_factory=factory, server_host_keys=[host_key], signature_algs=accepted
    ) as server:
        target = Target("gpu-x", "127.0.0.1", server.get_port(), identity_files=(key,), agent=False)
        assert await outcome(target) is None


async def test_an_rsa_key_logs_in_to_openssh(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """From a file and from an agent, at a server that takes no SHA-1."""
    server = openssh_factory()
    key = generate_key(tmp_path / "rsa", "rsa")
    server.revoke()
    server.authorize(key)
    assert await outcome(target_for(server, identity_files=(key,))) is None


async def test_other_connections_of_the_process_are_left_alone(openssh_factory: OpenSSHFactory) -> None:
    """What spares harvestd round trips changes nothing for who uses asyncssh beside it."""
    server = openssh_factory()
    async with connect(target_for(server), Pins()):
        pass
    assert "Postponed publickey" not in server.log_text()
    options = {"username": server.user, "client_keys": [str(server.client_key)], "known_hosts": None, "config": None}
    async with asyncssh.connect("127.0.0.1", server.port, agent_path=None, **options):
        pass
    assert "Postponed publickey" in server.log_text()
