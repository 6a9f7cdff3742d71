"""Logging in, against real OpenSSH and against ports that only look like one: keys, pins, errors and their bounds."""

import asyncio
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import anyio
import asyncssh
import pytest

from contract.connected import Pins, target_for
from harvestd.errors import HarvestError, HostQuarantined, Retry
from harvestd.remote.connecting import connect
from harvestd.remote.failures import AuthenticationRefused, HostKeyChanged, HostKeyUnknown, Unreachable
from harvestd.remote.target import Target
from support.openssh import OpenSSHFactory, OpenSSHServer, generate_key

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


async def outcome(target: Target, pins: Pins | None = None) -> HarvestError | None:
    """Connect and leave; gives the error if there was one."""
    try:
        async with connect(target, pins or Pins()):
            return None
    except HarvestError as e:
        return e


async def test_first_use_keeps_the_key(openssh_factory: OpenSSHFactory) -> None:
    """After the first log-in the host's key is kept under its identity, as the server has it."""
    server, pins = openssh_factory(), Pins()
    assert await outcome(target_for(server), pins) is None
    (line,) = pins.kept.values()
    assert list(pins.kept) == ["box"]
    key = asyncssh.import_public_key(line)
    assert key.get_fingerprint() == server.host_key_fingerprint


async def test_failed_log_in_keeps_no_key(openssh_factory: OpenSSHFactory) -> None:
    """A server that refuses us may be the last tenant's: its key is not kept."""
    server, pins = openssh_factory(), Pins()
    server.revoke()
    assert isinstance(await outcome(target_for(server), pins), AuthenticationRefused)
    assert not pins.kept


async def test_changed_key_is_refused_before_authentication(openssh_factory: OpenSSHFactory) -> None:
    """A host with another key is sent nothing, its pin stays, and the error names both keys and the way out."""
    server, pins = openssh_factory(), Pins()
    assert await outcome(target_for(server), pins) is None
    kept, old = dict(pins.kept), server.host_key_fingerprint
    server.change_host_key()
    before = len(server.log_text())
    error = await outcome(target_for(server), pins)
    assert isinstance(error, HostKeyChanged)
    assert old in str(error)
    assert server.host_key_fingerprint in str(error)
    assert "harvestd forget-key box" in error.hint
    assert pins.kept == kept
    log = server.log_text()[before:]
    assert "Accepted" not in log
    assert "publickey" not in log
    assert server.user not in log


async def test_pin_belongs_to_the_identity(openssh_factory: OpenSSHFactory) -> None:
    """The same address under a new identity is another host: nothing is compared with the old one's key."""
    server, pins = openssh_factory(), Pins()
    await outcome(target_for(server), pins)
    server.change_host_key()
    assert await outcome(target_for(server, identity="new-instance"), pins) is None
    assert set(pins.kept) == {"box", "new-instance"}


@pytest.mark.parametrize("kept_type", ["rsa", "ecdsa", "ed25519"])
async def test_server_with_several_keys_never_looks_changed(openssh_factory: OpenSSHFactory, kept_type: str) -> None:
    """Whichever of a server's keys is kept is asked for again."""
    server = openssh_factory(host_key_types=("ed25519", "ecdsa", "rsa"))
    pins = Pins()
    public = (server.directory / f"host_{kept_type}_key.pub").read_text()
    pins.kept["box"] = public
    assert await outcome(target_for(server), pins) is None
    assert pins.kept["box"] == public


async def test_lost_algorithm_is_a_changed_key(openssh_factory: OpenSSHFactory) -> None:
    """A server that no longer has the kept kind of key has changed, too."""
    server = openssh_factory(host_key_types=("ed25519",))
    pins = Pins()
    pins.kept["box"] = generate_key(server.directory / "other", "rsa").with_suffix(".pub").read_text()
    error = await outcome(target_for(server), pins)
    assert isinstance(error, HostKeyChanged)
    assert server.host_key_fingerprint in str(error)


async def test_damaged_pin_is_no_first_use(openssh_factory: OpenSSHFactory) -> None:
    """A kept key that can't be read is never taken for "no key is kept"."""
    pins = Pins()
    pins.kept["box"] = "ssh-ed25519 not*base64"
    error = await outcome(target_for(openssh_factory()), pins)
    assert isinstance(error, HostKeyUnknown)
    assert "forget-key" in error.hint


async def test_known_hosts(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """In the known_hosts way the operator's file decides, and nothing is pinned."""
    server, pins = openssh_factory(), Pins()
    known = tmp_path / "known_hosts"
    target = target_for(server, host_keys="known_hosts", known_hosts=known)
    assert isinstance(await outcome(target, pins), HostKeyUnknown)
    known.write_text("")
    unknown = await outcome(target, pins)
    assert isinstance(unknown, HostKeyUnknown)
    assert server.host_key_fingerprint in str(unknown)
    public = (server.directory / "host_ed25519_key.pub").read_text()
    known.write_text(f"[127.0.0.1]:{server.port} {public}")
    assert await outcome(target, pins) is None
    server.change_host_key()
    assert isinstance(await outcome(target, pins), HostKeyUnknown)
    assert not pins.kept


async def test_wrong_key(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A refused log-in names the user, the keys that were offered and those that could not be."""
    server = openssh_factory()
    wrong, missing = generate_key(tmp_path / "wrong"), tmp_path / "missing"
    error = await outcome(target_for(server, identity_files=(missing, wrong)))
    assert isinstance(error, AuthenticationRefused)
    for part in (server.user, str(wrong), f"{missing} (does not exist)", f"127.0.0.1:{server.port}"):
        assert part in str(error)
    assert "ssh-copy-id" in error.hint
    assert wrong.read_text().splitlines()[1] not in str(error)


async def test_many_wrong_keys(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """Being cut off for too many keys is a refusal, too."""
    server = openssh_factory(extra_config=["MaxAuthTries 2"])
    keys = tuple(generate_key(tmp_path / f"wrong{n}") for n in range(4))
    assert isinstance(await outcome(target_for(server, identity_files=keys)), AuthenticationRefused)


async def test_second_key_fits(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """Keys are tried in their order until one is accepted."""
    server = openssh_factory()
    wrong = generate_key(tmp_path / "wrong")
    assert await outcome(target_for(server, identity_files=(wrong, server.client_key))) is None


async def test_key_with_passphrase(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A key that is locked is named as such, and that there is no agent to unlock it."""
    locked = _locked_key(tmp_path / "locked")
    error = await outcome(target_for(openssh_factory(), identity_files=(locked,)))
    assert isinstance(error, AuthenticationRefused)
    assert f"{locked} (has a passphrase" in str(error)
    assert "agent" in str(error)


async def test_no_key_at_all(openssh_factory: OpenSSHFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key nothing is sent, and the error says how to get one."""
    monkeypatch.setenv("HOME", str(tmp_path))
    server = openssh_factory()
    before = server.log_text()
    error = await outcome(target_for(server, identity_files=()))
    assert isinstance(error, AuthenticationRefused)
    assert "ssh-add" in error.hint
    assert server.log_text() == before


def _locked_key(path: Path) -> Path:
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "a passphrase", "-f", str(path)]
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, timeout=60)
    return path


async def test_agent(openssh_factory: OpenSSHFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent's keys are used where they may be, those of the named files first, and never where not."""
    server = openssh_factory()
    path = tmp_path / "agent"
    async with await anyio.open_process(["ssh-agent", "-D", "-a", str(path)], stdout=subprocess.DEVNULL) as process:
        with anyio.fail_after(10):
            while not path.exists():  # noqa: ASYNC110  (another process makes it)
                await anyio.sleep(0.01)
        agent = asyncssh.SSHAgentClient(str(path))
        strangers = [asyncssh.generate_private_key("ssh-ed25519") for _ in range(8)]
        await agent.add_keys([*strangers, str(server.client_key)])
        agent.close()
        monkeypatch.setenv("SSH_AUTH_SOCK", str(path))
        # The file is of no use by itself, but its public half tells which of the agent's nine keys it is.
        named = tmp_path / "named"
        named.write_text("not a private key")
        named.with_name("named.pub").write_text(server.client_key.with_name("client_key.pub").read_text())
        allowed = await outcome(target_for(server, identity_files=(named,), agent=True))
        forbidden = await outcome(target_for(server, identity_files=(named,), agent=False))
        process.terminate()
    assert allowed is None
    assert isinstance(forbidden, AuthenticationRefused)


async def test_refused_port(key: Path) -> None:
    """A port where nobody listens is a retry that names host, address and port."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    error = await outcome(_nowhere(key, port))
    assert isinstance(error, Unreachable)
    assert isinstance(error, Retry)
    assert f"gpu-x (ubuntu@127.0.0.1:{port})" in str(error)
    assert "refused" in str(error).lower()
    assert error.hint


async def test_name_that_does_not_resolve(key: Path) -> None:
    """A name that leads nowhere is a retry that says so."""
    error = await outcome(_nowhere(key, 22, address="no-such-host.invalid"))
    assert isinstance(error, Unreachable)
    assert "resolved" in str(error)


def _nowhere(key: Path, port: int, address: str = "127.0.0.1") -> Target:
    return Target("gpu-x", address, port, identity_files=(key,), agent=False, connect_timeout=timedelta(seconds=0.5))


@asynccontextmanager
async def listening(serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object]) -> AsyncIterator[int]:
    """Listen on loopback; gives the port."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await serve(reader, writer)  # type: ignore[misc]  # a coroutine function
        except ConnectionError:
            pass
        finally:
            writer.close()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield server.sockets[0].getsockname()[1]


async def _silent(reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def _trickle(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    for byte in b"SSH-2.0-" + bytes([65]) * 1000:
        writer.write(bytes([byte]))
        await writer.drain()
        await anyio.sleep(0.05)


async def _lines(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"please wait\r\n")
        await writer.drain()
        await anyio.sleep(0.01)


async def _banner_only(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
    await reader.read()


@pytest.mark.parametrize(
    ("serve", "text"),
    [(_silent, "nothing there speaks SSH"), (_trickle, "nothing there speaks SSH"), (_banner_only, "not done")],
)
async def test_hosts_that_keep_us_waiting(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object], text: str, key: Path
) -> None:
    """A host that accepts and then dawdles costs the connect time-out and no more."""
    async with listening(serve) as port:
        began = time.monotonic()
        target = Target(
            "gpu-x", "127.0.0.1", port, identity_files=(key,), agent=False, connect_timeout=timedelta(seconds=0.5)
        )
        error = await outcome(target)
        assert time.monotonic() - began < 3
    assert isinstance(error, Unreachable)
    assert text in str(error)
    assert f"127.0.0.1:{port}" in str(error)


async def _hang_up(_reader: asyncio.StreamReader, _writer: asyncio.StreamWriter) -> None:
    return


async def _http(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"SSH-1.0-old\x1b[31m\r\n")
    await writer.drain()


@pytest.mark.parametrize("serve", [_hang_up, _http])
async def test_hosts_that_break_off(
    serve: Callable[[asyncio.StreamReader, asyncio.StreamWriter], object], key: Path
) -> None:
    """A connection that is closed at once (MaxStartups), or speaks something else, is tried again later."""
    async with listening(serve) as port:
        error = await outcome(Target("gpu-x", "127.0.0.1", port, identity_files=(key,), agent=False))
    assert isinstance(error, Unreachable)
    assert "\x1b" not in str(error)


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
                self._connection.send_debug("x")
            asyncio.get_running_loop().call_later(0.001, self._talk)


async def test_flood_that_no_window_governs_is_cut_off(key: Path) -> None:
    """A host that sends without end what nobody asked for is cut off and left alone; others have their turn."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen("127.0.0.1", 0, server_factory=_Flooding, server_host_keys=[host_key]) as server:
        target = Target("gpu-x", "127.0.0.1", server.get_port(), identity_files=(key,), agent=False)
        async with connect(target, Pins()) as connection:
            with anyio.fail_after(60):
                await connection.wait_closed()
            error = connection.lost()
        received = connection.meter.total
    assert isinstance(error, HostQuarantined)
    assert "gpu-x" in str(error)
    assert received < 6 * 1024 * 1024


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """Make a client key."""
    return generate_key(tmp_path / "key")


async def test_full_sshd_is_a_retry(openssh_factory: OpenSSHFactory) -> None:
    """An sshd that drops new connections (MaxStartups) is tried again, not quarantined."""
    server = openssh_factory(max_startups="1:100:1")
    reader, writer = await asyncio.open_connection(server.address, server.port)
    await reader.readline()
    try:
        error = await outcome(target_for(server))
    finally:
        writer.close()
    assert isinstance(error, Unreachable)


async def test_dead_link_is_noticed_and_left_in_bounded_time(openssh_factory: OpenSSHFactory) -> None:
    """A link whose other side falls silent ends after three keepalives, and leaving it takes no longer than seconds."""
    server = openssh_factory()
    async with _relay(server) as (port, freeze):
        target = target_for(server, port=port, keepalive=timedelta(seconds=0.2))
        began = time.monotonic()
        async with connect(target, Pins()) as connection:
            freeze.set()
            with anyio.fail_after(10):
                await connection.wait_closed()
        assert time.monotonic() - began < 10


async def test_leaving_a_silent_link_is_bounded(openssh_factory: OpenSSHFactory) -> None:
    """Saying good-bye to nobody takes no longer than the closing time."""
    server = openssh_factory()
    async with _relay(server) as (port, freeze):
        async with connect(target_for(server, port=port), Pins()):
            freeze.set()
            began = time.monotonic()
        assert time.monotonic() - began < 4


@asynccontextmanager
async def _relay(server: OpenSSHServer) -> AsyncIterator[tuple[int, asyncio.Event]]:
    """Pass bytes on to `server` until the event is set, then swallow them; gives the port and the event."""
    frozen = asyncio.Event()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if not frozen.is_set():
                writer.write(data)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        onward, back = await asyncio.open_connection(server.address, server.port)
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(pump, onward, writer)
                await pump(reader, back)
                tasks.cancel_scope.cancel()
        finally:
            back.close()

    async with listening(serve) as port:
        yield port, frozen


async def test_jump_host(openssh_factory: OpenSSHFactory) -> None:
    """Through a jump host both keys are kept, each under its own identity."""
    box, gate, pins = openssh_factory("box"), openssh_factory("gate"), Pins()
    target = target_for(box, proxy_jump=f"{gate.user}@127.0.0.1:{gate.port}")
    assert await outcome(target, pins) is None
    assert set(pins.kept) == {"box", f"jump:127.0.0.1:{gate.port}"}
    assert "Accepted publickey" in gate.log_text()
    assert "Accepted publickey" in box.log_text()


async def test_two_jump_hosts(openssh_factory: OpenSSHFactory) -> None:
    """Jump hosts may stand in a row."""
    box, near, far = (openssh_factory(name) for name in ("box", "near", "far"))
    pins = Pins()
    jump = f"127.0.0.1:{near.port},127.0.0.1:{far.port}"
    assert await outcome(target_for(box, proxy_jump=jump), pins) is None
    assert len(pins.kept) == 3
    assert "Accepted publickey" in near.log_text()
    assert "Accepted publickey" in far.log_text()


async def test_changed_key_of_a_jump_host(openssh_factory: OpenSSHFactory) -> None:
    """A jump host is checked as strictly as the box: with another key nothing goes through it."""
    box, gate, pins = openssh_factory("box"), openssh_factory("gate"), Pins()
    target = target_for(box, proxy_jump=f"127.0.0.1:{gate.port}")
    await outcome(target, pins)
    gate.change_host_key()
    before = box.log_text()
    error = await outcome(target, pins)
    assert isinstance(error, HostKeyChanged)
    assert f"jump:127.0.0.1:{gate.port}" in str(error)
    assert box.log_text() == before


async def test_box_that_a_jump_host_does_not_reach(openssh_factory: OpenSSHFactory) -> None:
    """When the way ends behind the jump host, it is the box that is unreachable."""
    box, gate = openssh_factory("box"), openssh_factory("gate")
    target = target_for(box, proxy_jump=f"127.0.0.1:{gate.port}")
    box.stop()
    error = await outcome(target)
    assert isinstance(error, Unreachable)
    assert str(error).startswith("box (")
    assert "jump host" in str(error)


async def test_config_file_only_where_it_is_named(
    openssh_factory: OpenSSHFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An alias of ~/.ssh/config means nothing unless the file is named; then address, user, port, keys and jump do."""
    box, gate = openssh_factory("box"), openssh_factory("gate")
    (tmp_path / ".ssh").mkdir()
    config = tmp_path / ".ssh" / "config"
    config.write_text(
        f"Host alias.invalid\n  Hostname 127.0.0.1\n  Port {box.port}\n  User {box.user}\n"
        f"  IdentityFile {box.client_key}\n  ProxyJump gate.invalid\n"
        f"Host gate.invalid\n  Hostname 127.0.0.1\n  Port {gate.port}\n  User {gate.user}\n"
        f"  IdentityFile {gate.client_key}\n"
    )
    monkeypatch.setenv("HOME", str(tmp_path))
    alias = target_for(box, address="alias.invalid", port=0, user="", identity_files=())
    named = replace(alias, config_files=(config,))
    pins = Pins()
    assert await outcome(named, pins) is None
    assert set(pins.kept) == {"box", "jump:gate.invalid:22"}
    assert "Accepted publickey" in gate.log_text()
    assert isinstance(await outcome(replace(alias, identity_files=(box.client_key,))), Unreachable)


async def test_bad_config_file(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """A configuration that can't be read is a matter for the operator, not for another try."""
    error = await outcome(target_for(openssh_factory(), config_files=(tmp_path / "missing",)))
    assert isinstance(error, HostQuarantined)
    config = tmp_path / "config"
    config.write_text("Port nonsense\n")
    error = await outcome(target_for(openssh_factory("other"), config_files=(config,)))
    assert isinstance(error, HostQuarantined)
    assert "config_files" in error.hint


async def test_connection_is_fast_and_plain(openssh_factory: OpenSSHFactory) -> None:
    """AES-GCM is chosen, nothing is compressed."""
    async with connect(target_for(openssh_factory()), Pins()) as connection:
        info = connection.ssh.get_extra_info
        assert info("recv_cipher") == "aes128-gcm@openssh.com"
        assert info("send_cipher") == "aes128-gcm@openssh.com"
        assert info("recv_compression") == "none"
