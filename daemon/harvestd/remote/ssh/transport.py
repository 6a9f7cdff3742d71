"""Open the transport of an SSH connection: TCP, a channel of a jump host's connection, or a ProxyCommand.

Names are resolved in threads of their own. asyncio's resolver shares its few threads with everything else in the
default executor, so that a few hosts with a dead name server would delay all others.

Run a ProxyCommand as ssh does, with the user's shell, and keep its standard error. Its standard input and output are
one socket, which is read and metered as a TCP connection is. Its standard error is separate: it is drained into a
bounded buffer, for the text of an error.
"""

import asyncio
import ipaddress
import os
import signal
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import Any, cast

import anyio
import asyncssh

from harvestd.remote.ssh.flood_guard import Meter, MeteredChannel, MeteredSocket, Session
from harvestd.remote.ssh.run_ssh import in_thread

_LONGEST_ERROR_OUTPUT = 2048
"""Bytes of its standard error that are kept: the last ones, which hold the reason."""
_ENDING = 2.0
"""Seconds for it to end after SIGHUP, before it is killed."""


class ProxyCommand(asyncio.SubprocessProtocol):
    """One process that carries one connection."""

    def __init__(self, command: str) -> None:
        """Prepare the command: shell text with its tokens replaced."""
        self.command = command
        self.error_output = b""
        self._transport: asyncio.SubprocessTransport | None = None
        self._ended = asyncio.Event()
        self._drained = asyncio.Event()

    @property
    def status(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._transport.get_returncode() if self._transport is not None else None

    async def start(self, protocol: "ProxySocket") -> asyncio.BaseTransport:
        """Start the command and return the transport to it. Raise OSError."""
        ours, theirs = socket.socketpair()
        loop = asyncio.get_running_loop()
        try:
            ours.setblocking(False)  # noqa: FBT003  (the system's signature)
            with theirs:
                await loop.subprocess_exec(
                    lambda: self,
                    _shell(),
                    "-c",
                    f"exec {self.command}",
                    stdin=theirs.fileno(),
                    stdout=theirs.fileno(),
                    stderr=asyncio.subprocess.PIPE,
                    start_new_session=True,
                )
            connection, _ = await loop.create_connection(lambda: protocol, sock=ours)
        except BaseException:
            ours.close()
            self.end()
            raise
        return connection

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Store the process's transport."""
        self._transport = cast("asyncio.SubprocessTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        """Release asyncio's resources for a process that has ended and for its standard error."""
        if self._transport is not None:
            self._transport.close()

    def pipe_data_received(self, fd: int, data: bytes) -> None:  # noqa: ARG002  (asyncio's signature)
        """Keep the end of its standard error."""
        self.error_output = (self.error_output + data)[-_LONGEST_ERROR_OUTPUT:]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        """Record that its standard error is closed."""
        self._drained.set()

    def process_exited(self) -> None:
        """Record that the process has ended."""
        self._ended.set()

    async def wait_ended(self, limit: float) -> None:
        """Wait until the process has ended and its standard error is drained, or for `limit` seconds."""
        with anyio.move_on_after(limit):
            await self._ended.wait()
            await self._drained.wait()

    def end(self) -> None:
        """Send SIGHUP to the process group, and SIGKILL later where it has not ended."""
        if self._transport is None or self._ended.is_set():
            return
        self._signal(signal.SIGHUP)
        asyncio.get_running_loop().call_later(_ENDING, self._kill)

    def _kill(self) -> None:
        if not self._ended.is_set():
            self._signal(signal.SIGKILL)

    def _signal(self, number: signal.Signals) -> None:
        pid = self._transport.get_pid() if self._transport is not None else None
        if pid is not None and self.status is None:
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(pid, number)


def _shell() -> str:
    """Return the user's shell, or /bin/sh: a service account's shell may refuse every command (nologin, false)."""
    shell = os.environ.get("SHELL", "")
    return "/bin/sh" if not shell or shell.endswith(("/nologin", "/false")) else shell


class ProxySocket(MeteredSocket):
    """The socket to a ProxyCommand; the process ends with it."""

    def __init__(self, session: Session, meter: Meter, proxy: ProxyCommand) -> None:
        super().__init__(session, meter)
        self._proxy = proxy

    def connection_lost(self, exc: Exception | None) -> None:
        """End the process, too."""
        self._proxy.end()
        super().connection_lost(exc)


_NEXT_ADDRESS_AFTER = 0.5
"""Seconds for one address of a name, before the next is tried beside it (RFC 8305)."""
_INNER_WINDOWS = 2
"""Factor: a jump host's channel carries one connection, with the requested window of its own channel plus overhead."""
_PACKET = 128 * 1024

JUMP_HOST = "the jump host did not connect further"
"""The value of `Dialer.awaits` on the way through a jump host."""

_Address = tuple[int, Any]
"""A family, and an address in the form of sockets of that family."""


class Dialer:
    """Opens the transport of one connection; passed to asyncssh as its tunnel."""

    def __init__(
        self,
        meter: Meter,
        *,
        via: tuple[asyncssh.SSHClientConnection, Meter] | None = None,
        proxy: ProxyCommand | None = None,
        window: int = 2 * 1024 * 1024,
        family: int = socket.AF_UNSPEC,
        bind_address: str = "",
    ) -> None:
        """Store the parameters.

        `via`: the connection to the jump host, with its meter. `window`: of channels opened here.
        """
        self._meter = meter
        self._via = via
        self._proxy = proxy
        self._window = window * _INNER_WINDOWS
        self._family = family
        self._bind_address = bind_address
        self._forgiven = False
        self.awaits = ""
        """The step in progress while no transport is open: for the text of an error."""
        self._metered: MeteredChannel | MeteredSocket | None = None

    @property
    def banner_before_version(self) -> bytes:
        """Return the server's text before its version line."""
        return self._metered.banner_before_version if self._metered else b""

    def leave(self) -> None:
        """Allow, on the jump host's meter, for data that may still arrive there; call it when this connection ends."""
        if self._via is not None and self._metered is not None and not self._forgiven:
            self._forgiven = True
            self._via[1].forgive(self._window)

    async def create_connection(
        self, session_factory: Callable[[], object], remote_host: str, remote_port: int
    ) -> tuple[object, object]:
        """Connect to the host; return the transport and asyncssh's connection. Raise OSError or asyncssh.Error."""
        session = cast("Session", session_factory())
        transport: object
        if self._via is not None:
            outer, outer_meter = self._via
            self.awaits = JUMP_HOST
            self._metered = channel = MeteredChannel(session, self._meter, outer_meter)
            transport, _ = await outer.create_connection(
                lambda: cast("asyncssh.SSHTCPSession[bytes]", channel),
                remote_host,
                remote_port,
                window=self._window,
                max_pktsize=_PACKET,
            )
            return transport, session
        if self._proxy is not None:
            self._metered = piped = ProxySocket(session, self._meter, self._proxy)
            return await self._proxy.start(piped), session
        self._metered = metered = MeteredSocket(session, self._meter)
        connected = await self._connected(remote_host, remote_port)
        transport = await _transport(connected, metered)
        return transport, session

    async def _connected(self, host: str, port: int) -> socket.socket:
        self.awaits = f"the name {host} was not resolved"
        addresses = await resolved(host, port, self._family)
        local = await resolved(self._bind_address, 0, self._family) if self._bind_address else []

        self.awaits = ""

        async def attempt(address: _Address) -> socket.socket:
            family, place = address
            own = next((each for of_family, each in local if of_family == family), None)
            if local and own is None:
                raise OSError(f"the address to bind to, {self._bind_address}, is of another family")
            return await connect(family, place, own)

        return await _first(addresses, attempt)


async def _transport(connected: socket.socket, protocol: asyncio.BaseProtocol) -> object:
    try:
        transport, _ = await asyncio.get_running_loop().create_connection(lambda: protocol, sock=connected)
    except BaseException:
        connected.close()
        raise
    return transport


async def resolved(host: str, port: int, family: int = socket.AF_UNSPEC) -> list[_Address]:
    """Return the addresses of a name in the order in which they are tried; raise `socket.gaierror`."""
    if _is_address(host):
        # No name server is queried, and nothing blocks.
        found = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, 0, socket.AI_NUMERICHOST)
    else:
        # A thread whose caller is gone ends by itself at the name server's time-out.
        found = await in_thread(socket.getaddrinfo, host, port, family, socket.SOCK_STREAM)
    by_family: dict[int, list[_Address]] = {}
    for of_family, _, _, _, place in found:
        by_family.setdefault(of_family, []).append((of_family, place))
    # Families alternate: one of them may be unreachable.
    queues = list(by_family.values())
    return [queue[n] for n in range(max(map(len, queues))) for queue in queues if n < len(queue)]


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


async def connect(family: int, place: Any, own: Any) -> socket.socket:  # noqa: ANN401  (sockets' own addresses)
    """Return a TCP socket that is connected to `place`, from the address `own` if that is not None."""
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        opened.setblocking(False)  # noqa: FBT003  (the system's signature)
        if own is not None:
            opened.bind(own)
        await asyncio.get_running_loop().sock_connect(opened, place)
    except BaseException:
        opened.close()
        raise
    return opened


async def _first(
    addresses: Sequence[_Address], attempt: Callable[[_Address], Awaitable[socket.socket]]
) -> socket.socket:
    """Return the first socket that connects; each address has half a second before the next is tried beside it.

    asyncio also races addresses, but leaks the winning socket where its caller is cancelled at that moment.
    """
    if len(addresses) == 1:
        return await attempt(addresses[0])
    won: list[socket.socket] = []
    errors: list[OSError] = []
    try:
        async with anyio.create_task_group() as tasks:

            async def run(address: _Address, done: anyio.Event) -> None:
                try:
                    connected = await attempt(address)
                except OSError as e:
                    errors.append(e)
                else:
                    won.append(connected)
                    tasks.cancel_scope.cancel()
                finally:
                    done.set()

            for address in addresses:
                done = anyio.Event()
                tasks.start_soon(run, address, done)
                with anyio.move_on_after(_NEXT_ADDRESS_AFTER):
                    await done.wait()
    except BaseException:
        for each in won:
            each.close()
        raise
    for each in won[1:]:
        each.close()
    if won:
        return won[0]
    raise errors[-1]
