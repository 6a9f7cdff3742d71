"""A connection that is logged in, the options that every connection has, and shared connections to jump hosts.

A connection to a jump host is shared by those that it carries. sshd drops handshakes at random beyond MaxStartups
(10:30:100), and a fleet behind one bastion would begin as many at once as it has hosts. Forwarded connections are not
limited by MaxSessions, which counts sessions only.
"""

from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

import anyio
import anyio.lowlevel
import asyncssh
from asyncssh.kex import get_kex_algs
from asyncssh.mac import get_mac_algs
from asyncssh.public_key import get_certificate_algs, get_public_key_algs

from harvestd.convention.structs import Immutable
from harvestd.errors import HarvestError, HostQuarantined
from harvestd.remote.ssh.config import ResolvedConfig
from harvestd.remote.ssh.errors import flooded, link_lost
from harvestd.remote.ssh.flood_guard import Meter
from harvestd.remote.ssh.target import Target
from harvestd.remote.ssh.transport import Dialer

CONTROL_WINDOW = 2 * 1024 * 1024
"""Bytes in flight on a channel of a connection for scans and small files."""
_PACKET = 128 * 1024
_CLOSING = 2.0
"""Seconds for a clean disconnect, before the socket is dropped."""
DEAD_AFTER = 4
"""A link is dead after this many times `Target.keepalive` without an answer to a keepalive."""
UNANSWERED_KEEPALIVES = 2
"""Keepalives that get no answer until then. They are sent a third less often than `Target.keepalive`: a host that scans
and reports in the same interval keeps its link alive without them."""
ENCRYPTION = [
    # Measured: AES-GCM is three to five times as fast here as OpenSSH's own first choice.
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
]


@dataclass(slots=True)
class Ending:
    """How a connection ended, as reported by asyncssh: a disconnect carries the host's reason."""

    error: Exception | None = None


class Connection(Immutable, eq=False):
    """A connection that is logged in; `connect` opens and closes it."""

    target: Target
    ssh: asyncssh.SSHClientConnection
    meter: Meter
    window: int
    """Bytes in flight on each channel that is opened on this connection."""
    dialer: Dialer
    ending: Ending
    hop: "Connection | None" = None
    """The connection to the jump host that carries this one; it may carry others, too."""

    @property
    def is_closed(self) -> bool:
        """Whether either side has ended the connection."""
        return self.ssh.is_closed()

    def lost(self, error: BaseException | None = None) -> HarvestError:
        """Return the error to raise when something on this connection failed with `error`."""
        if self.meter.exceeded:
            return flooded(self.target)
        has_ended = self.ssh.is_closed() or self.ending.error is not None
        if has_ended and (error is None or isinstance(error, asyncssh.ChannelOpenError)):
            # asyncssh raises this for every channel on a dead connection; sshd did not refuse anything.
            return link_lost(self.target, self.ending.error)
        return link_lost(self.target, error)

    async def failed(self, error: BaseException) -> HarvestError:
        """Return the error of `lost` for a channel that was not opened.

        The reason of a disconnect is known only after the event loop has run once more.
        """
        await anyio.lowlevel.checkpoint()
        return self.lost(error)

    async def wait_closed(self) -> None:
        """Wait until either side has ended the connection."""
        await self.ssh.wait_closed()

    def abort(self) -> None:
        """End the connection and the jump-host connections that carry it at once, without a disconnect message.

        For a dead link: other connections may use the same jump hosts.
        """
        self.ssh.abort()
        self.dialer.leave()
        if self.hop is not None:
            self.hop.abort()

    async def close(self) -> None:
        """End the connection within a bounded time, even where the other side does not respond."""
        self.dialer.leave()
        self.ssh.close()
        with anyio.move_on_after(_CLOSING, shield=True) as scope:
            await self.ssh.wait_closed()
        if scope.cancelled_caught:
            self.ssh.abort()


def algorithms_of(target: Target, config: ResolvedConfig) -> dict[str, object]:
    """Return asyncssh's options for the algorithms in the files; raise `HostQuarantined` where none is supported."""
    written = {
        "kex_algs": (config.key_exchanges, get_kex_algs()),
        "mac_algs": (config.macs, get_mac_algs()),
        "server_host_key_algs": (config.host_key_algorithms, [*get_public_key_algs(), *get_certificate_algs()]),
    }
    found: dict[str, object] = {}
    for option, (names, known) in written.items():
        usable = [name for name in names if name.encode() in known]
        if names and not usable:
            raise HostQuarantined(
                f"{target}: none of the algorithms that the SSH configuration names is supported ({','.join(names)})",
                hint="check KexAlgorithms, MACs and HostKeyAlgorithms in ssh.config_files",
            )
        if usable:
            found[option] = usable
    return found


NEVER: dict[str, object] = {
    # asyncssh would use all of these by default, or a configuration file could enable them.
    "agent_path": None,
    "agent_identities": None,
    "agent_forwarding": False,
    "x11_forwarding": False,
    "compression_algs": ["none"],
    "preferred_auth": ["publickey"],
    "password_auth": False,
    "kbdint_auth": False,
    "host_based_auth": False,
    "gss_host": None,
    "gss_kex": False,
    "gss_auth": False,
    "x509_trusted_certs": None,
    "x509_trusted_cert_paths": [],
    "command": None,
    "env": None,
    "send_env": None,
    "request_pty": False,
    "connect_timeout": None,
    "login_timeout": 0,
    "keepalive_count_max": UNANSWERED_KEEPALIVES,
    "max_pktsize": _PACKET,
}


Opening = Callable[[], AbstractAsyncContextManager["Connection"]]


class _Shared:
    """One connection, or the attempt to open it, and the number of its users, waiting ones included."""

    def __init__(self) -> None:
        self.users = 0
        self.settled = anyio.Event()
        """Set when the attempt has ended, with or without success."""
        self.connection: Connection | None = None
        self.error: HarvestError | None = None
        self.closing = AsyncExitStack()

    @property
    def is_usable(self) -> bool:
        """Whether a further user may join: the connection is being opened, or is alive."""
        if not self.settled.is_set():
            return True
        return self.connection is not None and not self.connection.is_closed


class Hops:
    """Shares connections to jump hosts: at most `most` for each key, of which a new user gets the least used one."""

    def __init__(self, most: int = 1) -> None:
        self._most = most
        self._shared: dict[Hashable, list[_Shared]] = {}

    def __len__(self) -> int:
        """Return the number of connections, those that are being opened included."""
        return sum(map(len, self._shared.values()))

    @asynccontextmanager
    async def shared(self, key: Hashable, opening: Opening) -> AsyncIterator["Connection"]:
        """Yield a connection for `key`, opened by `opening` where there is none to share.

        Raise what `opening` raises. The attempt belongs to one user and runs under that user's deadlines. Users that
        wait for it fail with it; where it was cancelled, one of them starts the next attempt.
        """
        while True:
            shared, is_new = self._joined(key)
            try:
                if is_new:
                    await self._open(shared, opening)
                else:
                    await shared.settled.wait()
                if shared.connection is not None:
                    yield shared.connection
                    return
                if shared.error is not None:
                    raise shared.error
            finally:
                await self._left(key, shared)

    def _joined(self, key: Hashable) -> tuple[_Shared, bool]:
        usable = [each for each in self._shared.get(key, ()) if each.is_usable]
        is_new = len(usable) < self._most
        shared = _Shared() if is_new else min(usable, key=lambda each: each.users)
        if is_new:
            self._shared.setdefault(key, []).append(shared)
        shared.users += 1
        return shared, is_new

    @staticmethod
    async def _open(shared: _Shared, opening: Opening) -> None:
        try:
            shared.connection = await shared.closing.enter_async_context(opening())
        except HarvestError as e:
            shared.error = e
            raise
        finally:
            shared.settled.set()

    async def _left(self, key: Hashable, shared: _Shared) -> None:
        shared.users -= 1
        if shared.users == 0 or not shared.is_usable:
            found = self._shared.get(key, [])
            if shared in found:
                found.remove(shared)
            if not found:
                self._shared.pop(key, None)
        if shared.users == 0:
            await shared.closing.aclose()
