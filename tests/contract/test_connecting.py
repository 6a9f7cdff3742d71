"""Connecting to servers, and to ports that only look like one: what each failure is, and how long it takes at most."""

import asyncio
import socket
import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import anyio
import asyncssh
import pytest
from asyncssh.constants import MSG_SERVICE_ACCEPT

from contract.connected import Pins, outcome, target_for
from harvestd.errors import HostQuarantined, Retry
from harvestd.remote.ssh.connect import connect
from harvestd.remote.ssh.errors import Unreachable
from harvestd.remote.ssh.target import Target
from support.faults import fired
from support.openssh import OpenSSHFactory, OpenSSHServer, generate_key

pytestmark = [pytest.mark.anyio, pytest.mark.openssh]


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
        assert time.monotonic() - began < 10  # by default it is 15 s
    assert isinstance(error, Unreachable)
    assert text in str(error)
    assert f"127.0.0.1:{port}" in str(error)
    assert "ssh.connect_timeout" in error.hint


async def test_a_name_server_that_does_not_answer_is_told_from_a_host(
    key: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The reason names what took too long: no firewall is in the way of a host whose address nobody asked for."""
    free = threading.Event()

    def hanging(*_: object) -> list[object]:
        free.wait(60)
        return []

    monkeypatch.setattr(socket, "getaddrinfo", hanging)
    try:
        error = await outcome(_nowhere(key, 22, address="gpu-x.example"))
    finally:
        free.set()
    assert isinstance(error, Unreachable)
    assert "gpu-x.example was not resolved within 0.5 s" in str(error)
    assert "name server" in error.hint
    assert "firewall" not in error.hint


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
    writer = await _waiting_room(server)
    try:
        error = await outcome(target_for(server))
    finally:
        writer.close()
    assert "MaxStartups" in server.log_text()
    fired(7)
    assert isinstance(error, Unreachable)


async def _waiting_room(server: OpenSSHServer) -> asyncio.StreamWriter:
    """Take the only place for those who have not logged in yet."""
    with anyio.fail_after(60):
        while True:
            reader, writer = await asyncio.open_connection(server.address, server.port)
            if (await reader.readline()).startswith(b"SSH-"):
                return writer
            # The place is still taken by whoever looked whether the server is up.
            writer.close()


async def test_dead_link_is_noticed_and_left_in_bounded_time(openssh_factory: OpenSSHFactory) -> None:
    """A link whose other side falls silent ends after a few keepalives, and leaving it takes no longer than seconds."""
    server = openssh_factory()
    async with _relay(server) as (port, freeze, swallowed):
        target = target_for(server, port=port, keepalive=timedelta(seconds=0.2))
        began = time.monotonic()
        async with connect(target, Pins()) as connection:
            freeze.set()
            with anyio.fail_after(60):
                await connection.wait_closed()
        assert time.monotonic() - began < 10
    assert swallowed
    fired(2)


async def test_leaving_a_silent_link_is_bounded(openssh_factory: OpenSSHFactory) -> None:
    """Saying good-bye to nobody takes no longer than the closing time."""
    server = openssh_factory()
    async with _relay(server) as (port, freeze, _):
        async with connect(target_for(server, port=port), Pins()):
            freeze.set()
            began = time.monotonic()
        assert time.monotonic() - began < 30  # without a limit: for ever


@asynccontextmanager
async def _relay(server: OpenSSHServer) -> AsyncIterator[tuple[int, asyncio.Event, bytearray]]:
    """Pass bytes on to `server` until the event is set, then swallow them; gives port, event, and what it swallowed."""
    frozen, swallowed = asyncio.Event(), bytearray()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(65536):
            if frozen.is_set():
                swallowed.extend(data)
            else:
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
        yield port, frozen, swallowed


async def test_connection_is_fast_and_plain(openssh_factory: OpenSSHFactory) -> None:
    """AES-GCM is chosen, nothing is compressed."""
    async with connect(target_for(openssh_factory()), Pins()) as connection:
        info = connection.ssh.get_extra_info
        assert info("recv_cipher") == "aes128-gcm@openssh.com"
        assert info("send_cipher") == "aes128-gcm@openssh.com"
        assert info("recv_compression") == "none"


class _SaysYesLast(asyncssh.SSHServer):
    """Holds back the answer to the question whether one may log in until somebody does."""

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        send, self._held = conn.send_packet, list[Callable[[], None]]()

        def held(kind: int, *parts: bytes, **options: Any) -> None:  # noqa: ANN401  (asyncssh's own, handed on)
            if kind == MSG_SERVICE_ACCEPT:
                self._held.append(lambda: send(kind, *parts, **options))
            else:
                send(kind, *parts, **options)

        conn.send_packet = held  # type: ignore[assignment, method-assign]

    def begin_auth(self, username: str) -> bool:  # noqa: ARG002  (asyncssh's signature)
        assert len(self._held) == 1
        self._held.pop()()
        return False


async def test_nobody_waits_to_be_told_that_one_may_log_in(key: Path) -> None:
    """The log-in follows the request for it at once: that answer is always the same, and a round trip away."""
    host_key = asyncssh.generate_private_key("ssh-ed25519")
    async with asyncssh.listen("127.0.0.1", 0, server_factory=_SaysYesLast, server_host_keys=[host_key]) as server:
        target = Target("gpu-x", "127.0.0.1", server.get_port(), identity_files=(key,), agent=False)
        async with connect(target, Pins()) as connection:
            assert not connection.ssh.is_closed()


async def test_a_key_from_a_file_signs_at_once(openssh_factory: OpenSSHFactory, tmp_path: Path) -> None:
    """Nobody is asked whether the key would do; where it does not, the next one is tried."""
    server = openssh_factory()
    stranger = generate_key(tmp_path / "stranger")
    both = (stranger, server.client_key)
    async with connect(target_for(server, identity_files=both), Pins()) as connection:
        assert not connection.ssh.is_closed()
    assert "Accepted publickey" in server.log_text()
    # sshd's word for a key that it was asked about before it saw a signature.
    assert "Postponed publickey" not in server.log_text()
