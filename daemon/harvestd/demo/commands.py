"""Run the commands of a demo host's clients as local processes, as sshd does.

The process gets the channel's bytes and returns its own, both unchanged. It runs in a process group of its own, which
is killed when the channel closes or the host stops: a demo leaves no process behind.
"""

import os
import signal
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import anyio
import asyncssh
from anyio.abc import ByteReceiveStream, ByteSendStream, Process

Stream = TypeVar("Stream", ByteSendStream, ByteReceiveStream)

_CHUNK = 64 * 1024
_NO_SHELL = 1
_SIGNALLED = 128
"""A shell's exit status for a command that a signal ended: this plus the signal's number."""


async def execute(session: asyncssh.SSHServerProcess[bytes], home: Path, environment: Mapping[str, str]) -> None:
    """Run the session's command by /bin/sh in `home` with just `environment`, and close the session with its status.

    Return when the command ended or the channel was closed. A request for an interactive shell is refused.
    """
    if session.command is None:
        session.stderr.write(b"This box runs commands only.\n")
        session.exit(_NO_SHELL)
        return
    command = ["/bin/sh", "-c", session.command]
    async with await anyio.open_process(command, cwd=home, env=environment, start_new_session=True) as child:
        try:
            async with anyio.create_task_group() as watchers:
                watchers.start_soon(_cancel_when_closed, session, watchers.cancel_scope)
                watchers.start_soon(_feed, session, child)
                await _answer(session, child)
                watchers.cancel_scope.cancel()
        finally:
            if child.returncode is None:
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)


async def _cancel_when_closed(session: asyncssh.SSHServerProcess[bytes], scope: anyio.CancelScope) -> None:
    await session.wait_closed()
    scope.cancel()


async def _feed(session: asyncssh.SSHServerProcess[bytes], child: Process) -> None:
    stdin = _open(child.stdin)
    # A command may end, or close its input, before it has read everything; a client may be cut off.
    with suppress(anyio.BrokenResourceError, anyio.ClosedResourceError, asyncssh.Error, asyncssh.SignalReceived):
        while data := await session.stdin.read(_CHUNK):
            await stdin.send(data)
    await stdin.aclose()


async def _answer(session: asyncssh.SSHServerProcess[bytes], child: Process) -> None:
    async with anyio.create_task_group() as pumps:
        pumps.start_soon(_pump, _open(child.stdout), session.stdout)
        pumps.start_soon(_pump, _open(child.stderr), session.stderr)
    status = await child.wait()
    with suppress(OSError):
        session.exit(status if status >= 0 else _SIGNALLED - status)


async def _pump(source: ByteReceiveStream, target: asyncssh.SSHWriter[bytes]) -> None:
    # Where the channel is closed, the watcher ends the command, and the rest of its output is dropped.
    with suppress(OSError, asyncssh.Error):
        async for data in source:
            target.write(data)
            await target.drain()


def _open(stream: Stream | None) -> Stream:
    """Return the pipe, which `open_process` always makes."""
    if stream is None:
        raise TypeError("a process without pipes")
    return stream
