"""Processes of harvestd that are forked instead of started: no time goes into imports.

`python -m support.forking FD` imports all commands, and what tests run as a daemon, and then forks for each request at
the listening socket FD, until its standard input ends. A forked process has its own environment, working directory,
arguments and standard streams, and ends as any other does. Only what Python reads at its start is the same for all.
"""

import atexit
import gc
import os
import pickle
import runpy
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from struct import Struct
from typing import Final, NoReturn

_AT_START: Final = ("PYTHON", "LANG", "LC_", "LD_", "MALLOC_")
"""Beginnings of the names of variables that are read when Python starts."""
_NOT_FOR_SERVER: Final = frozenset({"PYTHONPATH", "PYTHONWARNINGS"})
"""Variables that the server has of its own: all that tests run is found there, and warnings are shown."""
_DEADLINE: Final = 60.0
"""Seconds for the server to end."""
_SIZE: Final = Struct(">I")


@dataclass(frozen=True)
class Request:
    """A module to run as `python -m` does."""

    module: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str]
    directory: Path


class Forked:
    """A forked process, with the part of `subprocess.Popen` that tests use."""

    def __init__(self, request: Request, streams: Sequence[int]) -> None:
        """Run `request` on these descriptors as standard input, output and error."""
        self.returncode: int | None = None
        self._asking = socket.socket(socket.AF_UNIX)
        self._asking.connect(_server())
        content = pickle.dumps(request)
        socket.send_fds(self._asking, [_SIZE.pack(len(content))], list(streams))
        self._asking.sendall(content)
        self._answers = self._asking.makefile("rb")
        self.pid = int(self._answers.readline())

    def poll(self) -> int | None:
        """Return the exit code; None while it runs."""
        if self.returncode is None and select.select([self._asking], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Return the exit code when it has ended; raise `subprocess.TimeoutExpired` after `timeout` seconds."""
        if self.returncode is None:
            if not select.select([self._asking], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout or 0)
            self.returncode = int(self._answers.readline())
            self._answers.close()
            self._asking.close()
        return self.returncode

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


def can_fork(environment: Mapping[str, str]) -> bool:
    """Return whether a forked process would see this environment as a started one does."""
    return _at_start(environment) == _at_start(os.environ)


def _at_start(environment: Mapping[str, str]) -> dict[str, str]:
    found = {name: value for name, value in environment.items() if name.startswith(_AT_START)}
    return {name: value for name, value in found.items() if name not in _NOT_FOR_SERVER}


@cache
def _server() -> bytes:
    """Start the server of this process, once; return the address of its socket."""
    paths = os.pathsep.join(path for path in sys.path if path)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HARVESTD_")}
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("")  # a free name that is no file
        listening.listen()
        process = subprocess.Popen(
            [sys.executable, "-m", "support.forking", str(listening.fileno())],
            stdin=subprocess.PIPE,
            pass_fds=[listening.fileno()],
            env={**kept, "PYTHONPATH": paths, "PYTHONWARNINGS": "default"},
        )
        address: bytes = listening.getsockname()

    def end() -> None:
        process.communicate(timeout=_DEADLINE)

    atexit.register(end)
    return address


def main(descriptor: str) -> None:
    """Serve requests until standard input ends."""
    _import_all()
    # Nobody asks how a keeper has ended.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    with socket.socket(fileno=int(descriptor)) as listening:
        while listening in select.select([listening, sys.stdin], [], [])[0]:
            asking, _ = listening.accept()
            with asking:
                if os.fork() == 0:
                    listening.close()
                    _keep(asking)


def _import_all() -> None:
    from harvestd.cli.app import COMMANDS  # noqa: PLC0415  (only the server needs all this)
    from harvestd.cli.lazy_import import imported  # noqa: PLC0415
    from harvestd.harvest.startup import import_work  # noqa: PLC0415

    import_module("support.house")
    for module in ("catalogue.open", *(f"cli.{entry.module}" for entry in COMMANDS.values())):
        imported(f"harvestd.{module}")
    import_work()
    # What was imported stays shared with the forked processes.
    gc.collect()
    gc.freeze()


def _keep(asking: socket.socket) -> NoReturn:
    """Run one process in a child and send its id and exit code; kill it when the connection is closed."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    size, streams, _, _ = socket.recv_fds(asking, _SIZE.size, 3)
    content = asking.recv(_SIZE.unpack(size)[0], socket.MSG_WAITALL)
    request: Request = pickle.loads(content)  # noqa: S301  (from our own process)
    child = os.fork()
    if child == 0:
        asking.close()
        _become(request, streams)
    for each in (*streams, 0):
        os.close(each)
    asking.sendall(f"{child}\n".encode())
    handle = os.pidfd_open(child)
    if handle not in select.select([handle, asking.fileno()], [], [])[0]:
        os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    try:
        asking.sendall(f"{os.waitstatus_to_exitcode(status)}\n".encode())
    finally:
        os._exit(0)


def _become(request: Request, streams: Sequence[int]) -> NoReturn:
    """Turn this process into the one that was asked for."""
    for number, each in enumerate(streams):
        os.dup2(each, number)
        os.close(each)
    _open_streams()
    os.environ.clear()
    os.environ.update(request.environment)
    time.tzset()
    code: object = 0
    try:
        os.chdir(request.directory)
        sys.argv = [request.module, *request.arguments]
        # Otherwise runpy warns that it runs a module that was imported already.
        sys.modules.pop(request.module, None)
        runpy.run_module(request.module, run_name="__main__", alter_sys=True)
    except SystemExit as ended:
        code = ended.code
    except BaseException:  # noqa: BLE001  (what Python does with it)
        sys.excepthook(*sys.exc_info())
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def _open_streams() -> None:
    """Open standard streams as Python does at its start: what is a terminal is written line by line."""
    sys.stdin = open(0, closefd=False)  # noqa: SIM115  (it stays open)
    sys.stdout = open(1, "w", closefd=False)  # noqa: SIM115  (the same)
    error = open(2, "w", errors="backslashreplace", closefd=False)  # noqa: SIM115  (the same)
    error.reconfigure(line_buffering=True)
    sys.stderr = error


if __name__ == "__main__":
    main(sys.argv[1])
