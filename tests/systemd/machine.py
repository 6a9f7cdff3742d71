"""A machine that systemd boots, in a directory of this one: systemd-nspawn, on this machine's own loopback."""

import os
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

_BOOT = 60.0
_COMMAND = 120.0
_END = 20.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Failed(AssertionError):
    """What was expected of the machine did not come true."""


def until(condition: Callable[[], object], what: str, seconds: float = 60.0) -> None:
    """Return when `condition` holds; raises `Failed` after `seconds`."""
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() >= give_up:
            raise Failed(f"not within {seconds:g} s: {what}")
        time.sleep(0.1)


class Machine:
    """A machine that runs."""

    def __init__(self, tree: Path, leader: int, env: Mapping[str, str]) -> None:
        self.tree = tree
        """Its file system, as seen from here."""
        self._leader = leader
        self._env = [f"{name}={value}" for name, value in env.items()]

    def run(self, command: str) -> subprocess.CompletedProcess[str]:
        """Run a line of shell as its root, in root's home."""
        inside = ["nsenter", f"--target={self._leader}", "--all", "--"]
        clean = ["env", "-i", "--chdir=/root", f"PATH={_PATH}", "HOME=/root", "LC_ALL=C.UTF-8", *self._env]
        return subprocess.run(
            [*inside, *clean, "sh", "-c", command],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_COMMAND,
            start_new_session=True,
        )

    def say(self, command: str) -> str:
        """As `run`, for its answer; raises `Failed` where it fails."""
        done = self.run(command)
        if done.returncode:
            raise Failed(f"`{command}` ended with {done.returncode}: {done.stdout}{done.stderr}")
        return done.stdout.strip()

    def show(self, name: str) -> str:
        """Return a property of the unit."""
        return self.say(f"systemctl show harvestd --property={name} --value")

    def signal(self, name: str) -> str:
        """Send the daemon's main process a signal, and give its id there; raises `Failed` where none runs."""
        process = self.show("MainPID")
        if process in {"", "0"}:
            raise Failed("no daemon runs")
        self.say(f"kill -{name} {process}")
        return process

    def write(self, place: str, text: str) -> None:
        """Write a file into it; `place` is absolute there."""
        path = self.tree / place.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    def read(self, place: str) -> str:
        """Read a file of it."""
        return (self.tree / place.lstrip("/")).read_text()


@contextmanager
def booted(tree: Path, binds: Mapping[Path, str], env: Mapping[str, str]) -> Iterator[Machine]:
    """Boot what lies in `tree`, with directories of ours shown there read-only; ended with the body."""
    shown = [f"--bind-ro={here}:{there}" for here, there in binds.items()]
    command = ["systemd-nspawn", "--quiet", f"--directory={tree}", f"--machine=harvestd-{os.getpid()}"]
    console = tree.with_name("console.log")
    with console.open("wb") as log:
        process = subprocess.Popen(
            [*command, "--register=no", "--keep-unit", *shown, "--boot"],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        machine = Machine(tree, _leader(process, console), env)
        states = {"running", "degraded"}
        until(lambda: machine.run("systemctl is-system-running").stdout.strip() in states, "the machine boots", _BOOT)
        yield machine
    finally:
        _end(process)


def _leader(process: subprocess.Popen[bytes], console: Path) -> int:
    """Return the process that is the machine's first."""
    found = Path(f"/proc/{process.pid}/task/{process.pid}/children")

    def there() -> bool:
        if process.poll() is not None:
            raise Failed(f"systemd-nspawn ended: {console.read_text(errors='replace')[-2000:]}")
        return any(_name(int(child)) == "systemd" for child in found.read_text().split())

    until(there, "systemd starts in the machine", _BOOT)
    return next(int(child) for child in found.read_text().split() if _name(int(child)) == "systemd")


def _name(process: int) -> str:
    with suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip()
    return ""


def _end(process: subprocess.Popen[bytes]) -> None:
    # Its first process takes all others along; nothing in there is worth a good-bye.
    for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        os.kill(int(child), signal.SIGKILL)
    try:
        process.wait(_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(_END)


def quoted(text: str) -> str:
    """Return a text as one word of the shell."""
    return shlex.quote(text)
