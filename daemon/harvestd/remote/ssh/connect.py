"""Open SSH connections, with a total deadline and a verified host key; no other module opens one.

A connection never offers a password and forwards nothing. It reads no file of ~/.ssh that the operator did not name,
except ssh's default keys where no key is named. asyncssh never decides about host keys or jump hosts by itself.
"""

from collections.abc import AsyncIterator, Callable, Hashable, Iterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from functools import partial
from pathlib import Path

import anyio
import anyio.lowlevel
import asyncssh
from msgspec.structs import replace

from harvestd.errors import HarvestError, HostQuarantined
from harvestd.remote.ssh import host_keys
from harvestd.remote.ssh.asyncssh_patches import is_signing, speed_up, takes_no_keys, with_fallbacks
from harvestd.remote.ssh.auth import Identities, identities
from harvestd.remote.ssh.config import ResolvedConfig, resolve
from harvestd.remote.ssh.connection import (
    CONTROL_WINDOW,
    DEAD_AFTER,
    ENCRYPTION,
    NEVER,
    UNANSWERED_KEEPALIVES,
    Connection,
    Ending,
    Hops,
    algorithms_of,
)
from harvestd.remote.ssh.errors import (
    HostKeyUnknown,
    Unreachable,
    flooded,
    not_connected,
    proxy_failed,
    quoted,
    raise_if_short,
)
from harvestd.remote.ssh.flood_guard import Meter
from harvestd.remote.ssh.host_keys import HostKey, PinCheck, PinStore
from harvestd.remote.ssh.run_ssh import in_thread
from harvestd.remote.ssh.target import Target
from harvestd.remote.ssh.transport import JUMP_HOST, Dialer, ProxyCommand

_MOST_HOPS = 8
"""Most jump hosts on the way to one host."""
_LONGEST_BANNER = 2048
"""Characters of a banner that are kept."""
_LAST_MESSAGES = 1.0
"""Seconds for the ProxyCommand of a failed connection to end and write its reason."""
_NO_TIME = timedelta(0)
_NO_KNOWN_HOSTS: tuple[list[str], ...] = ([], [], [], [], [], [], [])
"""Trusts no key, so that asyncssh passes each key to `_Client`.

None would switch the checks off, and an empty value would read the user's own file.
"""


def _nothing() -> None:
    """Do nothing."""


@asynccontextmanager
async def connect(
    target: Target,
    pins: PinStore,
    *,
    window: int = CONTROL_WINDOW,
    hops: Hops | None = None,
    answered: Callable[[], None] = _nothing,
) -> AsyncIterator[Connection]:
    """Connect and log in to `target`, through its jump hosts where it has any.

    `hops` are connections to jump hosts to share; without them each connection has its own. `answered` is called when
    the first byte of the host arrives. Raise `Unreachable` (try again), `HostKeyChanged`, `HostKeyUnknown`,
    `AuthenticationRefused` (a person has to look) or another `HostQuarantined` for settings that can't be used, all
    within `target.connect_timeout` for each hop. A key that was not known is stored in `pins` after the log-in
    succeeded, and only then.
    """
    shared = Hops() if hops is None else hops
    async with _connected(target, pins, window, shared, _MOST_HOPS, answered) as connection:
        yield connection


@asynccontextmanager
async def _connected(
    target: Target,
    pins: PinStore,
    window: int,
    hops: Hops,
    hops_left: int,
    answered: Callable[[], None] = _nothing,
) -> AsyncIterator[Connection]:
    attempt = _Attempt(target, answered)
    async with AsyncExitStack() as stack:
        # Each step of the way may hang: a command of `Match exec`, a mounted home directory, an agent.
        with attempt.deadline():
            config = await resolve(target)
        attempt.target = target = _with(target, config)
        hop = None
        if config.jump:
            if not hops_left:
                raise HostQuarantined(
                    f"{target}: more than {_MOST_HOPS} jump hosts lead there",
                    hint="does ProxyJump of a jump host lead back to itself? Except it there: Host !bastion *",
                )
            jump = target.jump(config.jump)
            opening = partial(_connected, jump, pins, window, hops, hops_left - 1)
            hop = await stack.enter_async_context(hops.shared(_shared_by(jump, hops_left), opening))
        with attempt.deadline():
            connection = await attempt.log_in(config, pins, hop, window)
        stack.push_async_callback(connection.close)
        if target.host_keys == "pin" and attempt.check.pin is None and attempt.check.shown is not None:
            await pins.put(target.identity, str(attempt.check.shown))
        yield connection


async def settled(target: Target) -> Target:
    """Return the target with address, port and user as the configuration files set them; raise as `resolve` does."""
    return _with(target, await resolve(target))


def _with(target: Target, config: ResolvedConfig) -> Target:
    return replace(target, address=config.hostname, port=config.port, user=config.user)


def _shared_by(jump: Target, hops_left: int) -> Hashable:
    """Return the key under which jump-host connections are shared: all of the target but time-outs and default keys.

    The distance is part of the key: where jump hosts lead back to each other, no connection may wait for one that waits
    for it.
    """
    return replace(jump, connect_timeout=_NO_TIME, keepalive=_NO_TIME, default_identity_files=()), hops_left


def _read_known_hosts(paths: tuple[Path, ...]) -> object:
    """Return asyncssh's known hosts. As with ssh, missing files are left out, unless all of them are missing."""
    there = [str(path) for path in paths if path.exists()]
    return asyncssh.read_known_hosts(there or [str(path) for path in paths])


@dataclass(slots=True)
class _Attempt:
    """One attempt to log in, and the details for its error."""

    target: Target
    answered: Callable[[], None]
    """Called when the first byte arrives."""
    check: PinCheck = field(default_factory=lambda: PinCheck(None), init=False)
    spent: float = field(default=0.0, init=False)
    """Seconds of the connect time-out that are used up, without the connection to a jump host."""
    ssh: asyncssh.SSHClientConnection | None = field(default=None, init=False)
    meter: Meter = field(init=False)
    keys: Identities = field(default_factory=lambda: Identities((), (), ()), init=False)
    banner: str = field(default="", init=False)
    """The host's text during authentication."""
    doing: str = field(default="", init=False)
    """The local step that is in progress; empty while waiting for the host."""
    dialer: Dialer | None = field(default=None, init=False)
    proxy: ProxyCommand | None = field(default=None, init=False)
    ending: Ending = field(default_factory=Ending, init=False)

    def __post_init__(self) -> None:
        """Start counting before the first byte arrives."""
        self.meter = Meter(self._cut, self.answered)

    @contextmanager
    def deadline(self) -> Iterator[None]:
        """Bound the body by the rest of the target's connect time-out; raise `Unreachable` at its end."""
        self.doing = "the SSH configuration was not resolved"
        began = anyio.current_time()
        try:
            with anyio.fail_after(self.target.connect_timeout.total_seconds() - self.spent):
                yield
        except TimeoutError as e:
            raise self._late() from e
        self.spent += anyio.current_time() - began

    async def log_in(self, config: ResolvedConfig, pins: PinStore, hop: Connection | None, window: int) -> Connection:
        """Return the connection; raise the errors of `connect`, and TimeoutError at the caller's deadline."""
        target = self.target
        self.doing = "the kept host key was not read"
        if target.host_keys == "pin":
            self.check.pin = await host_keys.kept_pin(target, pins)
        trusted = await self._trusted(config)
        self.doing = "the keys to log in with were not read"
        async with identities(target, config) as self.keys:
            self.doing = ""
            return await self._log_in(config, trusted, hop, window)

    async def _log_in(self, config: ResolvedConfig, trusted: object, hop: Connection | None, window: int) -> Connection:
        target = self.target
        pairs = with_fallbacks(self.keys.keys)
        self.proxy = ProxyCommand(config.proxy_command) if config.proxy_command else None
        self.dialer = Dialer(
            self.meter,
            via=(hop.ssh, hop.meter) if hop else None,
            proxy=self.proxy,
            window=window,
            family=config.family,
            bind_address=config.bind_address,
        )
        options: dict[str, object] = {
            "port": config.port,
            "tunnel": self.dialer,
            # None is explicit: where the option is missing asyncssh reads ~/.ssh/config.
            "config": None,
            "client_factory": lambda: _Client(self, pairs),
            "known_hosts": trusted,
            "client_keys": pairs,
            "encryption_algs": ENCRYPTION,
            "keepalive_interval": target.keepalive.total_seconds() * DEAD_AFTER / (UNANSWERED_KEEPALIVES + 1),
            "window": window,
            **({"username": config.user} if config.user else {}),
            **({"host_key_alias": config.host_key_alias} if config.host_key_alias else {}),
            **algorithms_of(target, config),
            **NEVER,
        }
        if target.host_keys == "pin":
            options["server_host_key_algs"] = host_keys.algorithms(self.check.pin)
        try:
            ssh = await asyncssh.connect(config.hostname, **options)
        except (asyncssh.Error, OSError, ValueError) as e:
            if isinstance(e, TimeoutError) and e.errno is None:
                raise
            if self.proxy is not None:
                await self.proxy.wait_ended(_LAST_MESSAGES)
            raise self._failed(e) from e
        return Connection(target, ssh, self.meter, window, self.dialer, self.ending, hop)

    async def _trusted(self, config: ResolvedConfig) -> object:
        """Return what asyncssh checks host keys against; raise `HostKeyUnknown`."""
        if self.target.host_keys == "pin":
            return _NO_KNOWN_HOSTS
        files = " and ".join(map(str, config.known_hosts))
        try:
            return await in_thread(_read_known_hosts, config.known_hosts)
        except (OSError, ValueError) as e:
            raise_if_short(self.target, e)
            raise HostKeyUnknown(
                f"{self.target}: {files} can't be read ({e})",
                hint='connect once with ssh, or set ssh.host_keys = "pin"',
            ) from e

    def _cut(self) -> None:
        if self.ssh is not None:
            self.ssh.abort()
        if self.dialer is not None:
            self.dialer.leave()

    def _failed(self, error: asyncssh.Error | OSError | ValueError) -> HarvestError:
        match error:
            case _ if self.meter.exceeded:
                return flooded(self.target)
            case _ if self.check.refused:
                return self.check.changed(self.target)
            case asyncssh.HostKeyNotVerifiable():
                return HostKeyUnknown(
                    f"{self.target}: known_hosts does not hold its host key, {self._shown}",
                    hint='compare it and connect once with ssh, or set ssh.host_keys = "pin"',
                )
            case asyncssh.PermissionDenied():
                wants_more = self.ssh is not None and takes_no_keys(self.ssh)
                return self.keys.refused(self.target, quoted(self.banner), wants_more=wants_more)
            case asyncssh.DisconnectError() if "authentication failures" in error.reason:
                return self.keys.refused(self.target, quoted(self.banner))
            case _ if self.proxy is not None and (self.meter.total == 0 or self.proxy.status is not None):
                return proxy_failed(self.target, self.proxy.status, self.proxy.error_output, error)
            case _:
                return not_connected(self.target, error, self._host_text, answered=self.meter.total > 0)

    @property
    def _host_text(self) -> str:
        """The host's plain text before SSH or during authentication."""
        return quoted(self.dialer.banner_before_version if self.dialer else b"") or quoted(self.banner)

    @property
    def _shown(self) -> str:
        return self.check.shown.fingerprint if self.check.shown else "none"

    def _late(self) -> Unreachable:
        seconds = self.target.connect_timeout.total_seconds()
        if self.doing:
            what, hint = self.doing, "a command of `Match exec`, a file system or an agent of this machine hangs"
        elif self.ssh is None and self.dialer is not None and self.dialer.awaits == JUMP_HOST:
            what, hint = JUMP_HOST, "is the box running, and can it be reached from there?"
        elif self.ssh is None and self.dialer is not None and self.dialer.awaits:
            what, hint = self.dialer.awaits, "a name server does not answer: is the address right, and the network up?"
        elif self.ssh is None:
            what, hint = "no answer", "is the box running, and does a firewall let port and address through?"
        elif self.ssh.get_extra_info("server_version") is None and self.proxy is not None:
            what, hint = "its ProxyCommand led to no SSH server", "try it by hand, as the daemon's user"
        elif self.ssh.get_extra_info("server_version") is None:
            what, hint = "connected, but nothing there speaks SSH", "is this sshd's port? A box may hang while it boots"
        elif is_signing(self.ssh):
            what = "the ssh-agent did not sign"
            hint = "does it wait for a confirmation, or for a key to be touched?"
        else:
            what, hint = "connected, but the log-in was not done", "a very slow link, or a box that hangs"
        host_text = f". It said: {self._host_text}" if self._host_text else ""
        if self.proxy is not None and self.proxy.error_output:
            host_text += f". The ProxyCommand says: {quoted(self.proxy.error_output)}"
        way_out = f"{hint}; ssh.connect_timeout says how long it may take"
        return Unreachable(f"{self.target}: {what} within {seconds:g} s{host_text}", hint=way_out)


class _Client(asyncssh.SSHClient):
    """asyncssh's callbacks for one connection."""

    def __init__(self, attempt: _Attempt, pairs: Sequence[asyncssh.SSHKeyPair]) -> None:
        self._attempt = attempt
        self._pairs = pairs

    def auth_banner_received(self, msg: str, lang: str) -> None:  # noqa: ARG002  (asyncssh's signature)
        """Store the host's text during authentication: it holds the reason of a refusal."""
        attempt = self._attempt
        attempt.banner += msg[: max(0, _LONGEST_BANNER - len(attempt.banner))]

    def connection_made(self, conn: asyncssh.SSHClientConnection) -> None:
        """Store the connection: the error at a deadline reports its progress."""
        self._attempt.ssh = conn
        speed_up(conn, self._pairs)
        # asyncssh first queries the available methods (a log-in with "none"), and has no option to skip it. Only one
        # method is used here, and the query costs a round trip. Where a later asyncssh stores the methods elsewhere, it
        # queries again.
        if getattr(conn, "_auth_methods", None) == [b"none"]:
            conn._auth_methods = [b"publickey"]  # noqa: SLF001  (see above)

    def connection_lost(self, exc: Exception | None) -> None:
        """Store the reason."""
        self._attempt.ending.error = exc

    def validate_host_public_key(self, host: str, addr: str, port: int, key: asyncssh.SSHKey) -> bool:  # noqa: ARG002 (asyncssh's signature)
        """Decide about a key that asyncssh does not trust by itself; called again at each key exchange."""
        if self._attempt.target.host_keys == "pin":
            return self._attempt.check.accepts(key)
        self._attempt.check.shown = HostKey.of(key)
        return False
