"""The one place that opens SSH connections: with a total deadline, a verified host key and no secrets to give away.

Never offers a password, forwards nothing, reads no file of the user's ~/.ssh that the operator did not name (except
ssh's default keys, where none is named), and never lets asyncssh decide about host keys or jump hosts by itself.
"""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field

import anyio
import anyio.to_thread
import asyncssh

from harvestd.convention.values import Immutable
from harvestd.errors import HarvestError
from harvestd.remote import host_keys
from harvestd.remote.failures import (
    HostKeyUnknown,
    Unreachable,
    flooded,
    link_lost,
    not_connected,
    raise_if_short,
)
from harvestd.remote.host_keys import HostKey, PinCheck, PinStore
from harvestd.remote.identities import Identities, identities
from harvestd.remote.logging_in import begin_at_once, sign_at_once
from harvestd.remote.metering import Meter, MeteredDialer
from harvestd.remote.route import Route, config, login, route_to
from harvestd.remote.target import Target

CONTROL_WINDOW = 2 * 1024 * 1024
"""Bytes in flight on a channel of a connection for scans and small files."""
BULK_WINDOW = 16 * 1024 * 1024
"""Bytes in flight on a bulk connection's channel; a slow reader here holds all of them in memory."""
_PACKET = 128 * 1024
_CLOSING = 2.0
"""Seconds for a clean good-bye, before the socket is dropped."""
_UNANSWERED_KEEPALIVES = 3
_ENCRYPTION = [
    # Measured: AES-GCM is three to five times as fast here as OpenSSH's own first choice.
    "aes128-gcm@openssh.com",
    "aes256-gcm@openssh.com",
    "chacha20-poly1305@openssh.com",
    "aes256-ctr",
    "aes128-ctr",
]
_NO_KNOWN_HOSTS: tuple[list[str], ...] = ([], [], [], [], [], [], [])
"""Trusts nobody, so that each key is put to our client. None would switch the checks off, an empty value read the
user's own file."""


class Connection(Immutable, eq=False):
    """A connection that is logged in; `connect` makes and closes it."""

    target: Target
    ssh: asyncssh.SSHClientConnection
    meter: Meter
    window: int
    """Bytes in flight on each channel that is opened here."""
    hop: "Connection | None" = None
    """The connection to the jump host that this one leads through."""

    def lost(self, error: BaseException | None = None) -> HarvestError:
        """Give the error to raise when something on this connection failed with `error`."""
        if self.meter.exceeded:
            return flooded(self.target)
        if self.ssh.is_closed() and isinstance(error, asyncssh.ChannelOpenError):
            # asyncssh says so of every channel on a dead connection; sshd did not refuse anything.
            return link_lost(self.target, None)
        return link_lost(self.target, error)

    async def wait_closed(self) -> None:
        """Return when the connection has ended, from whichever side."""
        await self.ssh.wait_closed()

    def abort(self) -> None:
        """End the connection, and those that it leads through, at once and without a word to the other side."""
        self.ssh.abort()
        if self.hop is not None:
            self.hop.abort()

    async def close(self) -> None:
        """End the connection within a bounded time, even where the other side is silent."""
        self.ssh.close()
        with anyio.move_on_after(_CLOSING, shield=True) as scope:
            await self.ssh.wait_closed()
        if scope.cancelled_caught:
            self.ssh.abort()


@asynccontextmanager
async def connect(target: Target, pins: PinStore, *, window: int = CONTROL_WINDOW) -> AsyncIterator[Connection]:
    """Connect and log in to `target`, through its jump hosts where it has any.

    Raises `Unreachable` (try again), `HostKeyChanged`, `HostKeyUnknown`, `AuthenticationRefused` (a person has to
    look) or another `HostQuarantined` for settings that can't be used, all within `target.connect_timeout` for each
    hop. A key that was not known is kept in `pins` once the log-in succeeded, and only then.
    """
    sign_at_once()
    async with AsyncExitStack() as stack:
        route = await route_to(target)
        hop = None
        if route.jump:
            hop = await stack.enter_async_context(connect(target.jump(route.jump), pins, window=window))
        check = PinCheck(await host_keys.kept_pin(target, pins) if target.host_keys == "pin" else None)
        async with identities(target, route.identity_files) as keys:
            attempt = _Attempt(target, check, keys, await _trusted(target))
            connection = await attempt.log_in(route, hop, window)
        stack.push_async_callback(connection.close)
        if target.host_keys == "pin" and check.pin is None and check.shown is not None:
            await pins.put(target.identity, str(check.shown))
        yield connection


async def _trusted(target: Target) -> object:
    """Give what asyncssh is to check host keys against by itself; raises `HostKeyUnknown`."""
    if target.host_keys == "pin":
        return _NO_KNOWN_HOSTS
    try:
        return await anyio.to_thread.run_sync(asyncssh.read_known_hosts, str(target.known_hosts))
    except (OSError, ValueError) as e:
        raise_if_short(target, e)
        raise HostKeyUnknown(
            f"{target}: {target.known_hosts} can't be read ({e})",
            hint='connect once with ssh, or set ssh.host_keys = "pin"',
        ) from e


@dataclass(slots=True)
class _Attempt:
    """One attempt to log in, and what is known of it when it fails."""

    target: Target
    check: PinCheck
    keys: Identities
    trusted: object
    ssh: asyncssh.SSHClientConnection | None = field(default=None, init=False)
    meter: Meter = field(init=False)

    def __post_init__(self) -> None:
        """Begin to count before the first byte comes."""
        self.meter = Meter(self._cut)

    async def log_in(self, route: Route, hop: Connection | None, window: int) -> Connection:
        """Give the connection; raises what `connect` says."""
        target = self.target
        options: dict[str, object] = {
            **login(target),
            "config": config(target),
            "client_factory": lambda: _Client(self),
            "known_hosts": self.trusted,
            "client_keys": list(self.keys.keys),
            "encryption_algs": _ENCRYPTION,
            "keepalive_interval": target.keepalive.total_seconds(),
            "window": window,
            **_NEVER,
        }
        if target.host_keys == "pin":
            options["server_host_key_algs"] = host_keys.algorithms(self.check.pin)
        if route.own_dialer:
            options["tunnel"] = MeteredDialer(self.meter, (hop.ssh, hop.meter) if hop else None)
        try:
            with anyio.fail_after(target.connect_timeout.total_seconds()):
                ssh = await asyncssh.connect(target.address, **options)
        except (asyncssh.Error, OSError, ValueError) as e:
            raise self._failed(e) from e
        return Connection(target, ssh, self.meter, window, hop)

    def _cut(self) -> None:
        if self.ssh is not None:
            self.ssh.abort()

    def _failed(self, error: asyncssh.Error | OSError | ValueError) -> HarvestError:
        match error:
            case _ if self.meter.exceeded:
                return flooded(self.target)
            case _ if self.check.refused:
                return self.check.changed(self.target)
            case asyncssh.HostKeyNotVerifiable():
                return HostKeyUnknown(
                    f"{self.target}: {self.target.known_hosts} does not hold its host key, {self._shown}",
                    hint='compare it and connect once with ssh, or set ssh.host_keys = "pin"',
                )
            case asyncssh.PermissionDenied():
                return self.keys.refused(self.target)
            case asyncssh.DisconnectError() if "authentication failures" in error.reason:
                return self.keys.refused(self.target)
            case TimeoutError() if error.errno is None:
                return self._late()
            case _:
                return not_connected(self.target, error)

    @property
    def _shown(self) -> str:
        return self.check.shown.fingerprint if self.check.shown else "none"

    def _late(self) -> Unreachable:
        seconds = self.target.connect_timeout.total_seconds()
        if self.ssh is None:
            what, hint = "no answer", "is the box running, and does a firewall let port and address through?"
        elif self.ssh.get_extra_info("server_version") is None:
            what, hint = "connected, but nothing there speaks SSH", "is this sshd's port? A box may hang while it boots"
        else:
            what, hint = "connected, but the log-in was not done", "a very slow link, or a box that hangs"
        return Unreachable(f"{self.target}: {what} within {seconds:g} s", hint=hint)


_NEVER: dict[str, object] = {
    # asyncssh would use all of these by default, or let a configuration file switch them on.
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
    "keepalive_count_max": _UNANSWERED_KEEPALIVES,
    "max_pktsize": _PACKET,
}


class _Client(asyncssh.SSHClient):
    """Asyncssh's questions about one connection."""

    def __init__(self, attempt: _Attempt) -> None:
        self._attempt = attempt

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Remember the connection: a deadline's error says how far it came."""
        self._attempt.ssh = conn
        begin_at_once(conn)
        # asyncssh asks first which ways to log in there are (a log-in with "none"), and has no option against it. We
        # know one way only, and the question costs a round trip. Where it keeps this elsewhere one day, it asks again.
        if getattr(conn, "_auth_methods", None) == [b"none"]:
            conn._auth_methods = [b"publickey"]  # noqa: SLF001  (see above)

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002 (asyncssh's signature)
        """Decide about a key that asyncssh does not trust by itself. It asks again at each key exchange."""
        if self._attempt.target.host_keys == "pin":
            return self._attempt.check.accepts(key)
        self._attempt.check.shown = HostKey.of(key)
        return False
