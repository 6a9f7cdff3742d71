"""Run blocking calls and `ssh -G` on the way to a host: bounded, and nothing left behind after cancellation.

Run blocking local calls on the way to a host: name resolution, key files, configuration files. Each may hang (a dead
name server, a network file system); then only the host that needs it waits, until its deadline. They have a thread
limiter of their own, so that the threads for everything else are never used up.
"""

import asyncio
import os
import re
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TypeVar, TypeVarTuple

import anyio
import anyio.to_thread
from anyio.abc import ByteReceiveStream, Process

from harvestd.convention.structs import Immutable

STANDARD_INPUT = "/dev/stdin"
"""The name of `run_ssh`'s standard input in a command, and in ssh's messages."""
_MOST = 256 * 1024
"""Bytes of each of its outputs that are kept."""
_ENDING = 2.0
"""Seconds to wait for a process that was killed."""
_READS = re.compile(r"debug1: Reading configuration data (?P<path>.+)")
_RUNS = "debug1: Executing command:"
_NOISE = ("debug1:", "debug2:", "debug3:", "OpenSSH_", "Pseudo-terminal will not be allocated")


class SshResult(Immutable):
    """The result of one run of ssh."""

    status: int
    output: str
    error: str
    """Its error messages, without debug output."""
    files: tuple[Path, ...] = ()
    """The configuration files that it read, where debug output was requested (-v)."""
    ran_commands: bool = False
    """Whether it ran a command for a `Match exec`, where debug output was requested (-v)."""


async def run_ssh(command: Sequence[str], text: bytes = b"") -> SshResult:
    """Run the command with `text` on its standard input, and return its output; raise OSError.

    When cancelled, kill it and every process that it started.
    """
    with _file_of(text) as file:
        process = await anyio.open_process(
            command, stdin=file, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
        )
    output, complaints = bytearray(), bytearray()
    try:
        async with anyio.create_task_group() as tasks:
            for stream, into in ((process.stdout, output), (process.stderr, complaints)):
                if stream is not None:
                    tasks.start_soon(_collect, stream, into)
            status = await process.wait()
    finally:
        await _end(process)
    return _answer(status, output.decode("utf-8", "surrogateescape"), complaints.decode("utf-8", "replace"))


@contextmanager
def _file_of(text: bytes) -> Iterator[int]:
    """Yield a file in memory: unlike a pipe, ssh can read it from the beginning twice, as `Match final` requires."""
    file = os.memfd_create("ssh_config")
    try:
        while text:
            text = text[os.write(file, text) :]
        yield file
    finally:
        os.close(file)


async def _collect(stream: ByteReceiveStream, into: bytearray) -> None:
    async for data in stream:
        into += data[: max(0, _MOST - len(into))]


async def _end(process: Process) -> None:
    with anyio.move_on_after(_ENDING, shield=True):
        if process.returncode is None:
            # A command of `Match exec` runs in the same session, and would keep the pipes open.
            with suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.wait()
        await process.aclose()


def _answer(status: int, output: str, complaints: str) -> SshResult:
    lines = complaints.splitlines()
    return SshResult(
        status=status,
        output=output,
        error="\n".join(line for line in lines if line and not line.startswith(_NOISE)),
        files=tuple(
            Path(match["path"])
            for line in lines
            if (match := _READS.fullmatch(line)) and match["path"] != STANDARD_INPUT
        ),
        ran_commands=any(line.startswith(_RUNS) for line in lines),
    )


Result = TypeVar("Result")
Arguments = TypeVarTuple("Arguments")

_AT_ONCE = 256
"""Most simultaneous calls; each host that is being connected to makes one call at a time."""

_limiters: dict[int, anyio.CapacityLimiter] = {}
"""The limiter of the running event loop, by the loop's id."""


async def in_thread(call: Callable[[*Arguments], Result], *arguments: *Arguments) -> Result:
    """Return the result of a blocking call. When cancelled, abandon it: its thread ends when the call returns."""
    loop = id(asyncio.get_running_loop())
    if loop not in _limiters:
        _limiters.clear()
        _limiters[loop] = anyio.CapacityLimiter(_AT_ONCE)
    return await anyio.to_thread.run_sync(call, *arguments, abandon_on_cancel=True, limiter=_limiters[loop])
