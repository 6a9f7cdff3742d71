"""Commands of harvestd as processes of their own that are forked instead of started: no time goes into imports.

`python -m support.forking FD` imports all commands once and forks for each request at the listening socket FD, until
its standard input ends. A forked command has its own environment, working directory and standard streams, and ends as
any other process does. What only a start of Python reads (`_AT_START`) is the same for all.
"""

import atexit
import gc
import os
import pickle
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, NoReturn

_AT_START: Final = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_")
"""Beginnings of the names of variables that are read when Python starts."""
_DEADLINE: Final = 60.0
"""Seconds for a server to end."""
_MUCH: Final = 65_536


@dataclass(frozen=True)
class Request:
    """One command to run."""

    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path
    seconds: float
    """After that it is killed."""


class TooLong(Exception):
    """A command did not end in time, and was killed."""


def can_fork(environment: Mapping[str, str]) -> bool:
    """Return whether a forked command would see this environment as a started one does."""
    return _at_start(environment) == _at_start(_started_with())


def forked(request: Request, streams: Sequence[int]) -> int:
    """Run a command on these standard streams, given as descriptors, and return its exit code; raise `TooLong`."""
    with socket.socket(socket.AF_UNIX) as asking:
        asking.connect(_server())
        socket.send_fds(asking, [b"."], list(streams))
        asking.sendall(pickle.dumps(request))
        asking.shutdown(socket.SHUT_WR)
        answer = asking.recv(_MUCH)
    if not answer:
        raise TooLong
    return int(answer)


@cache
def _started_with() -> dict[str, str]:
    from support.command import environment  # noqa: PLC0415  (it imports this module)

    return environment()


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if name.startswith(_AT_START)}


@cache
def _server() -> bytes:
    """Start the server of this process, once; return the address of its socket."""
    paths = os.pathsep.join(path for path in sys.path if path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("")  # a free name that is no file
        listening.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "support.forking", str(listening.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            env={**_started_with(), "PYTHONPATH": paths},
        )
        address: bytes = listening.getsockname()

    def end() -> None:
        process.communicate(timeout=_DEADLINE)

    atexit.register(end)
    return address


def main(descriptor: str) -> None:
    """Serve requests until standard input ends."""
    _import_all()
    # Ended keepers are nobody's concern here.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=int(descriptor)) as listening:
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            asking, _ = listening.accept()
            with asking:
                if os.fork() == 0:
                    listening.close()
                    _keep(asking)


def _import_all() -> None:
    from harvestd.cli.app import COMMANDS  # noqa: PLC0415  (only the server needs it)
    from harvestd.cli.lazy_import import imported  # noqa: PLC0415  (the same)
    from harvestd.harvest.startup.open import _import_work  # noqa: PLC0415  (the same)

    for module in sorted({entry.module for entry in COMMANDS.values()} - {"commands.demo"}):
        imported(f"harvestd.cli.{module}")
    imported("harvestd.catalogue.open")
    _import_work()
    # What was imported stays shared with the commands.
    gc.collect()
    gc.freeze()


def _keep(asking: socket.socket) -> NoReturn:
    """Run one command in a child and answer with its exit code, or with nothing where it took too long."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, streams, _, _ = socket.recv_fds(asking, 1, 3)
    with asking.makefile("rb") as file:
        request: Request = pickle.load(file)  # noqa: S301  (from our own process)
    child = os.fork()
    if child == 0:
        asking.close()
        _become(request, streams)
    for each in (*streams, 0):
        os.close(each)
    handle = os.pidfd_open(child)
    if select.select([handle], [], [], request.seconds)[0]:
        _, status = os.waitpid(child, 0)
        asking.sendall(str(os.waitstatus_to_exitcode(status)).encode())
    else:
        os.kill(child, signal.SIGKILL)
    os._exit(0)


def _become(request: Request, streams: Sequence[int]) -> NoReturn:
    """Turn this process into the command."""
    for number, each in enumerate(streams):
        os.dup2(each, number)
        os.close(each)
    _open_streams()
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    try:
        os.chdir(request.directory)
        from harvestd import __main__  # noqa: PLC0415  (what runs instead of this)

        sys.argv = [__main__.__file__, *request.arguments]
        __main__.main()
    except BaseException:  # noqa: BLE001  (what Python does with it)
        sys.excepthook(*sys.exc_info())
        sys.stderr.flush()
        os._exit(1)


def _open_streams() -> None:
    """Open standard streams as Python does at its start: what is a terminal is written line by line."""
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  (it stays open)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  (the same)
    error = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115  (the same)
    error.reconfigure(line_buffering=True)
    sys.stderr = error


if __name__ == "__main__":
    main(sys.argv[1])
