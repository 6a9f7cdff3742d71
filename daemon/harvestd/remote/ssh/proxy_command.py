"""Run a ProxyCommand as ssh does, with the user's shell, and keep its standard error.

Its standard input and output are one socket, which is read and metered as a TCP connection is. Its standard error is
separate: it is drained into a bounded buffer, for the text of an error.
"""

import asyncio
import os
import signal
import socket
from contextlib import suppress
from typing import cast

import anyio

from harvestd.remote.ssh.flood_guard import Meter, MeteredSocket, Session

_SAID = 2048
"""Bytes of its standard error that are kept: the last ones, which hold the reason."""
_ENDING = 2.0
"""Seconds for it to end after SIGHUP, before it is killed."""


class ProxyCommand(asyncio.SubprocessProtocol):
    """One process that carries one connection."""

    def __init__(self, command: str) -> None:
        """Prepare the command: shell text with its tokens replaced."""
        self.command = command
        self.said = b""
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
        self.said = (self.said + data)[-_SAID:]

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:  # noqa: ARG002  (asyncio's signature)
        """Record that its standard error is closed."""
        self._drained.set()

    def process_exited(self) -> None:
        """Record that the process has ended."""
        self._ended.set()

    async def wait_ended(self, patience: float) -> None:
        """Wait until the process has ended and its standard error is drained, or for `patience` seconds."""
        with anyio.move_on_after(patience):
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
