"""The embedded fleet: SSH servers on loopback, each serving a directory as a host's file system.

Two of every three hosts run commands, so that harvestd's probe really runs there; the third offers read-only SFTP
alone. The fleet listens on 127.0.0.1 only, creates its keys below its own directory, and leaves no process behind.
Leaving its context stops it; `stop_box` stops one host and drops its connections.

Run the commands of a demo host's clients as local processes, as sshd does. The process gets the channel's bytes and
returns its own, both unchanged. It runs in a process group of its own, which is killed when the channel closes or the
host stops: a demo leaves no process behind.
"""

import os
import signal
import string
from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from functools import partial
from pathlib import Path
from typing import NoReturn, Self, TypeVar

import anyio
import asyncssh
from anyio.abc import ByteReceiveStream, ByteSendStream, Process, TaskGroup, TaskStatus

from harvestd.convention.structs import Immutable

_CHANGES = asyncssh.FXF_WRITE | asyncssh.FXF_APPEND | asyncssh.FXF_CREAT | asyncssh.FXF_TRUNC | asyncssh.FXF_EXCL


def _refuse(*_args: object, **_kwargs: object) -> NoReturn:
    raise asyncssh.SFTPPermissionDenied("this box is read-only")


class ReadOnlySFTPServer(asyncssh.SFTPServer):
    """asyncssh's server of the local file system, with protocol version 3 and without operations that change files."""

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> object:
        """Open `path` for reading; raise SFTPPermissionDenied for any other mode."""
        if pflags & _CHANGES:
            _refuse()
        return super().open(path, pflags, attrs)

    open56 = _refuse
    write = _refuse
    setstat = _refuse
    lsetstat = _refuse
    fsetstat = _refuse
    remove = _refuse
    mkdir = _refuse
    rmdir = _refuse
    rename = _refuse
    posix_rename = _refuse
    symlink = _refuse
    link = _refuse


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


LOOPBACK = "127.0.0.1"
_SFTP_EVERY = 3
_CLOSING_SECONDS = 5
_GPUS = (["NVIDIA H100 80GB HBM3"], ["NVIDIA A100-SXM4-80GB"] * 8)
"""The output of nvidia-smi, host by host in rotation; a host's tree may name other hardware, as on a real one."""


class Box(Immutable):
    """One running host of the fleet."""

    name: str
    address: str
    port: int
    root: Path
    """Represents /home/ubuntu/localfs; it has training_runs and eval_runs, empty at first."""


class _Running(Immutable):
    box: Box
    scope: anyio.CancelScope
    ended: anyio.Event


class _Session(asyncssh.SSHServer):
    """Registers its connection in `live`, so that a host that stops can drop it."""

    def __init__(self, live: set[asyncssh.SSHServerConnection]) -> None:
        self._live = live
        self._connection: asyncssh.SSHServerConnection | None = None

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        """Register the connection."""
        self._connection = conn
        self._live.add(conn)

    def connection_lost(self, _exc: Exception | None) -> None:
        """Remove the connection."""
        if self._connection is not None:
            self._live.discard(self._connection)


class Fleet:
    """`boxes` hosts below `directory`, named gpu-a, gpu-b, gpu-c …; they run while the context is open.

    One key, at `client_key`, is accepted by all of them, with any user name.
    """

    def __init__(self, directory: Path, boxes: int = 3) -> None:
        if not 0 < boxes <= len(string.ascii_lowercase):
            raise ValueError(f"a demo fleet has 1 to {len(string.ascii_lowercase)} boxes")
        self._directory = directory
        self._names = [f"gpu-{letter}" for letter in string.ascii_lowercase[:boxes]]
        self._running: dict[str, _Running] = {}
        self._stack = AsyncExitStack()
        self.client_key = directory / "client_key"

    @property
    def boxes(self) -> Sequence[Box]:
        """All hosts that were started, stopped ones too."""
        return [running.box for running in self._running.values()]

    def box(self, name: str) -> Box:
        """Return the host called `name`; raise KeyError."""
        return self._running[name].box

    async def __aenter__(self) -> Self:
        public_key = await anyio.to_thread.run_sync(_make_client_key, self.client_key)
        async with AsyncExitStack() as stack:
            tasks = await stack.enter_async_context(anyio.create_task_group())
            stack.callback(tasks.cancel_scope.cancel)
            for number, name in enumerate(self._names):
                home = self._directory / name
                await anyio.to_thread.run_sync(_make_home, home, _GPUS[number % len(_GPUS)])
                offer = _offer_sftp if number % _SFTP_EVERY == _SFTP_EVERY - 1 else partial(_offer_commands, home)
                self._running[name] = await tasks.start(_serve, name, home, public_key, offer)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        # The caller's own error is not passed to the task group, which would wrap it in an ExceptionGroup.
        await self._stack.aclose()

    async def stop_box(self, name: str) -> None:
        """Stop the host: it stops listening, drops its connections and kills its commands. Raise KeyError.

        Return when all of that has happened; raise TimeoutError where it takes longer than `2 * _CLOSING_SECONDS`.
        """
        running = self._running[name]
        running.scope.cancel()
        with anyio.fail_after(2 * _CLOSING_SECONDS):
            await running.ended.wait()


Offer = Callable[[TaskGroup], dict[str, object]]
"""Returns the options of asyncssh.listen for a host's services; commands run in the task group."""


def _offer_sftp(_commands: TaskGroup) -> dict[str, object]:
    return {"sftp_factory": ReadOnlySFTPServer}


def _offer_commands(home: Path, commands: TaskGroup) -> dict[str, object]:
    environment = {"HOME": str(home), "PATH": f"{home / 'bin'}{os.pathsep}{os.defpath}", "LANG": "C.UTF-8"}

    def run(session: asyncssh.SSHServerProcess[bytes]) -> None:
        commands.start_soon(execute, session, home, environment)

    return {"process_factory": run, "sftp_factory": ReadOnlySFTPServer}


async def _serve(name: str, home: Path, public_key: str, offer: Offer, *, task_status: TaskStatus[_Running]) -> None:
    """Run one host until it is cancelled."""
    ended = anyio.Event()
    live: set[asyncssh.SSHServerConnection] = set()
    try:
        async with anyio.create_task_group() as commands:
            acceptor = await asyncssh.listen(
                LOOPBACK,
                0,
                server_factory=partial(_Session, live),
                server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
                authorized_client_keys=asyncssh.import_authorized_keys(public_key),
                encoding=None,
                config=None,
                allow_pty=False,
                agent_forwarding=False,
                **offer(commands),
            )
            try:
                box = Box(name, LOOPBACK, acceptor.get_port(), home / "localfs")
                task_status.started(_Running(box, commands.cancel_scope, ended))
                await anyio.sleep_forever()
            finally:
                await _close(acceptor, live)
    finally:
        ended.set()


async def _close(acceptor: asyncssh.SSHAcceptor, live: set[asyncssh.SSHServerConnection]) -> None:
    acceptor.close()
    dropped = tuple(live)
    for connection in dropped:
        connection.abort()
    with anyio.move_on_after(_CLOSING_SECONDS, shield=True):
        for connection in dropped:
            await connection.wait_closed()
        await acceptor.wait_closed()


def _make_client_key(path: Path) -> str:
    """Create the client's key pair; return the public half as a line of authorized_keys."""
    key = asyncssh.generate_private_key("ssh-ed25519", comment="harvestd demo")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(key.export_private_key())
    return key.export_public_key().decode()


def _make_home(home: Path, gpus: Sequence[str]) -> None:
    """Create a host's directories and its nvidia-smi, which lists its GPUs and no processes."""
    for tree in ("training_runs", "eval_runs"):
        (home / "localfs" / tree).mkdir(parents=True)
    smi = home / "bin" / "nvidia-smi"
    smi.parent.mkdir()
    shown = "\n".join(f"    echo '{gpu}'" for gpu in gpus)
    smi.write_text(f'#!/bin/sh\ncase "$*" in\n  *--query-gpu=*)\n{shown}\n    ;;\nesac\n')
    smi.chmod(0o755)
