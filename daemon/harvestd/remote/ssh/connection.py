"""A connection that is logged in, and the options that every connection has."""

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
