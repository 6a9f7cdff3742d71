"""The command line as a user meets it: a process of its own, with its output and exit code."""

import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import harvestd
from support import forking

_DEADLINE = 120.0
"""Seconds for any command to end."""
_SOURCES = Path(harvestd.__file__).parents[1]


@dataclass(frozen=True)
class Ended:
    """A command that has ended."""

    code: int
    out: str
    err: str

    @property
    def document(self) -> Any:  # noqa: ANN401  (JSON may be anything)
        """The one JSON document on standard output; fails where anything else stands there."""
        return json.loads(self.out)


def environment(**variables: str) -> dict[str, str]:
    """Return an environment in which `harvestd` is found and no setting of the user's applies."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("HARVESTD_")}
    return {**kept, "PYTHONPATH": str(_SOURCES), "PYTHONWARNINGS": "default", **variables}


def command(*arguments: str | Path) -> list[str]:
    """Return the command line of `harvestd` with these arguments."""
    return [sys.executable, "-m", "harvestd", *map(str, arguments)]


def started_command(*arguments: str | Path, cwd: Path | None = None, **variables: str) -> Ended:
    """Start `harvestd` with these arguments, off a terminal, and give how it ended; `variables` are set for it."""
    done = subprocess.run(
        command(*arguments),
        check=False,
        capture_output=True,
        stdin=subprocess.DEVNULL,
        text=True,
        timeout=_DEADLINE,
        cwd=cwd,
        env=environment(**variables),
    )
    return Ended(done.returncode, done.stdout, done.stderr)


@contextmanager
def running_command(*arguments: str | Path, output: Path, **variables: str) -> Iterator[subprocess.Popen[bytes]]:
    """Start a command for the body, with its output in a file."""
    with output.open("wb") as out:
        process = subprocess.Popen(
            command(*arguments), stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=environment(**variables)
        )
    with process:
        try:
            yield process
        finally:
            process.kill()


def harvestd_command(*arguments: str | Path, cwd: Path | None = None, **variables: str) -> Ended:
    """Run `harvestd` as `started_command` does, in a process that is forked where that makes no difference to it."""
    surroundings = environment(**variables)
    if not forking.can_fork(surroundings):
        return started_command(*arguments, cwd=cwd, **variables)
    request = forking.Request("harvestd", tuple(map(str, arguments)), surroundings, cwd or Path.cwd())
    with Path(os.devnull).open("rb") as nothing, TemporaryFile() as out, TemporaryFile() as err:
        process = forking.Forked(request, [nothing.fileno(), out.fileno(), err.fileno()])
        try:
            code = process.wait(_DEADLINE)
        finally:
            process.kill()
        output = []
        for file in (out, err):
            file.seek(0)
            output.append(file.read().decode())
    return Ended(code, *output)


def on_terminal(arguments: Sequence[str | Path], **variables: str) -> str:
    """Run `harvestd` with standard output on a terminal of 80 columns (`COLUMNS`) and give all that came out there."""
    ours, theirs = pty.openpty()
    try:
        process = subprocess.Popen(
            command(*arguments),
            stdin=subprocess.DEVNULL,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
            env=environment(**{"TERM": "xterm-256color", "COLUMNS": "80", **variables}),
        )
        os.close(theirs)
        seen = bytearray()
        while True:
            try:
                more = os.read(ours, 65_536)
            except OSError:  # Linux: the other side was closed
                break
            if not more:
                break
            seen += more
        process.wait(timeout=_DEADLINE)
    finally:
        os.close(ours)
    return seen.decode()
