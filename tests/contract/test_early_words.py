"""What is sent right behind the request to execute a command: read whole by OpenSSH's server, and paid for."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import anyio
import asyncssh
import pytest
from asyncssh.constants import MSG_CHANNEL_DATA

from harvestd.remote.ssh.asyncssh_patches import EarlyInput
from support.lying import listening
from support.openssh import OpenSSHFactory, OpenSSHServer

_GRANT = 2 * 1024 * 1024
"""What OpenSSH grants a session (CHAN_SES_WINDOW_DEFAULT: 64 packets of 32 KiB)."""
_PACKET = 32 * 1024


class _Speaker(asyncssh.SSHClientSession[bytes]):
    """Sends `words` to a command as early as possible, and keeps its output."""

    def __init__(self, words: bytes) -> None:
        self.words = words
        self.heard = bytearray()
        self.window_then = self.grant = self.window_left = -1
        """Bytes that might be sent when it spoke; when the command was said to be executed; and after that."""
        self.ended = anyio.Event()

    def connection_made(self, chan: asyncssh.SSHClientChannel[bytes]) -> None:
        self.channel = chan
        self.early = EarlyInput(chan)
        asyncio.get_running_loop().call_soon(self._speak)

    def _speak(self) -> None:
        self.window_then = self.channel._send_window
        self.early.send(self.words)

    def session_started(self) -> None:
        self.grant = self.channel._send_window
        self.early.settle()
        self.window_left = self.channel._send_window

    def data_received(self, data: bytes, datatype: int | None) -> None:
        assert datatype is None
        self.heard += data
        if len(self.heard) >= len(self.words):
            self.channel.write_eof()

    def connection_lost(self, exc: Exception | None) -> None:
        assert exc is None
        self.ended.set()


@asynccontextmanager
async def logged_in(server: OpenSSHServer) -> AsyncIterator[asyncssh.SSHClientConnection]:
    """Connect without harvestd's limits on what is sent unasked for."""
    async with asyncssh.connect(
        server.address,
        server.port,
        username=server.user,
        client_keys=[str(server.client_key)],
        known_hosts=None,
        config=None,
        agent_path=None,
    ) as ssh:
        yield ssh


async def event_log(ssh: asyncssh.SSHClientConnection, words: bytes, command: str) -> _Speaker:
    """Send `words` to a command and return its output."""
    with anyio.fail_after(60):
        _, session = await ssh.create_session(lambda: _Speaker(words), command, encoding=None)
        speaker = cast("_Speaker", session)
        await speaker.ended.wait()
    return speaker


@pytest.mark.anyio
@pytest.mark.openssh
@pytest.mark.parametrize("size", [1, 20_000, _PACKET])
async def test_one_packet_goes_without_waiting(openssh_factory: OpenSSHFactory, size: int) -> None:
    """All of it is sent before any grant, is read by the command, and is taken off the grant."""
    words = bytes(range(256)) * 128
    async with logged_in(openssh_factory()) as ssh:
        speaker = await event_log(ssh, words[:size], "cat")
    assert (speaker.window_then, speaker.grant, speaker.window_left) == (0, _GRANT, _GRANT - size)
    assert bytes(speaker.heard) == words[:size]


@pytest.mark.anyio
@pytest.mark.openssh
async def test_the_rest_waits_for_the_grant(openssh_factory: OpenSSHFactory) -> None:
    """More than a packet, and more than a whole window: it comes in order, and nothing is ever sent unpaid."""
    words = bytes(range(251)) * 20_000
    server = openssh_factory()
    async with logged_in(server) as ssh:
        speaker = await event_log(ssh, words, "cat")
    assert len(words) > speaker.grant == _GRANT
    assert speaker.window_left == 0
    assert bytes(speaker.heard) == words
    assert "too much data" not in server.log_text()


@pytest.mark.anyio
@pytest.mark.openssh
async def test_where_the_command_is_refused_nothing_breaks(openssh_factory: OpenSSHFactory) -> None:
    """A command that reads nothing and ends at once takes nothing else with it: the connection goes on."""
    async with logged_in(openssh_factory()) as ssh:
        silent = await event_log(ssh, b"x" * _PACKET, "exit 3")
        after = await event_log(ssh, b"still here", "cat")
    assert not silent.heard
    assert bytes(after.heard) == b"still here"


@pytest.mark.anyio
async def test_a_window_from_the_start_is_used_as_ever() -> None:
    """A server that grants with the channel itself is owed nothing, whatever it calls itself."""

    async def echo(process: asyncssh.SSHServerProcess[bytes]) -> None:
        process.stdout.write(await process.stdin.readexactly(5))
        process.exit(0)

    async with (
        listening(None, process_factory=echo, server_version="OpenSSH_9.9") as port,
        asyncssh.connect("127.0.0.1", port, known_hosts=None, username="anybody") as ssh,
    ):
        assert str(ssh.get_extra_info("server_version")).startswith("SSH-2.0-OpenSSH_")
        speaker = await event_log(ssh, b"words", "cat")
    assert bytes(speaker.heard) == b"words"
    assert speaker.window_left > 0


@dataclass
class Channel:
    """A channel without a window, and what was sent on it."""

    version: str
    _send_window: int = 0
    _send_pktsize: int = _PACKET
    sent: list[int] = field(default_factory=list)
    written: bytes = b""

    def get_extra_info(self, name: str, default: object = None) -> object:
        """Return what the server says of itself."""
        return self.version if name == "server_version" else default

    def send_packet(self, kind: int, *_: bytes) -> None:
        """Keep a packet's kind."""
        self.sent.append(kind)

    def write(self, words: bytes) -> None:
        """Keep what waits for a grant."""
        self.written += words


@pytest.mark.parametrize(
    ("version", "early"),
    [("SSH-2.0-OpenSSH_7.4", True), ("SSH-2.0-dropbear_2022.83", False), ("SSH-2.0-Go", False), ("", False)],
)
def test_openssh_alone_hears_anything_early(version: str, early: bool) -> None:  # noqa: FBT001  (a table's column)
    """Any other server's rules are RFC 4254's: nothing without a grant."""
    channel = Channel(version)
    words = EarlyInput(cast("asyncssh.SSHClientChannel[bytes]", channel))
    words.send(b"words")
    words.settle()
    assert channel.sent == ([MSG_CHANNEL_DATA] if early else [])
    assert channel.written == (b"" if early else b"words")


def test_an_asyncssh_that_keeps_its_window_elsewhere_waits() -> None:
    """Nothing is guessed where the window can't be seen."""
    channel = Channel("SSH-2.0-OpenSSH_9.6")
    del channel._send_window
    del Channel._send_window
    words = EarlyInput(cast("asyncssh.SSHClientChannel[bytes]", channel))
    words.send(b"words")
    assert channel.written == b"words"
