"""A command on a terminal of its own, which is watched while it runs: what came out, and what stands there now."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.command import command, environment

_CODES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")


class Screen:
    """A terminal with one process on it."""

    def __init__(self, ours: int, process: subprocess.Popen[bytes]) -> None:
        self._ours = ours
        self.process = process
        self.raw = ""
        """All that came out, codes and all."""
        self.modes = termios.tcgetattr(ours)

    def frames(self) -> list[list[str]]:
        """Return the lines of each drawing, without codes: a drawing begins at its first line again."""
        return [_CODES.sub("", frame).split("\r\n") for frame in re.split(r"(?:\x1b\[1A\x1b\[2K)+", self.raw)]

    def until(self, condition: Callable[[list[str]], object], seconds: float = 60.0) -> list[str]:
        """Read until the newest drawing meets the condition, and give it; fails after `seconds`."""
        end = time.monotonic() + seconds
        while True:
            frame = self.frames()[-1]
            if condition(frame):
                return frame
            assert time.monotonic() < end, f"did not come true within {seconds:g} s: {frame}"
            self._read(0.2)

    def resize(self, columns: int, rows: int) -> None:
        """Return the terminal another size, as a window does."""
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process.send_signal(signal.SIGWINCH)

    def type(self, keys: bytes) -> None:
        """Type."""
        os.write(self._ours, keys)

    def ended(self, seconds: float = 60.0) -> int:
        """Wait for the process to end and give its exit code."""
        end = time.monotonic() + seconds
        while self.process.poll() is None:
            assert time.monotonic() < end, "it does not end"
            self._read(0.1)
        self._read(0.0)
        return self.process.wait()

    @property
    def is_as_before(self) -> bool:
        """Whether the terminal's modes are those of before the command, and the cursor is shown."""
        return termios.tcgetattr(self._ours) == self.modes and self.raw.rfind("\x1b[?25h") > self.raw.rfind("\x1b[?25l")

    def _read(self, seconds: float) -> None:
        while select.select([self._ours], [], [], seconds)[0]:
            seconds = 0.0
            self.raw += os.read(self._ours, 65_536).decode()


@contextmanager
def screen_of(arguments: Sequence[str | Path], columns: int = 80, rows: int = 24) -> Iterator[Screen]:
    """Run `harvestd` on a terminal of this size as its foreground process; killed at the end if it still runs."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    variables = environment(TERM="xterm-256color")
    for name in ("COLUMNS", "LINES", "NO_COLOR"):
        variables.pop(name, None)
    process = subprocess.Popen(
        ["setsid", "--ctty", "--wait", *command(*arguments)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=variables,
    )
    try:
        yield Screen(ours, process)
    finally:
        process.kill()
        process.wait()
        os.close(theirs)
        os.close(ours)
