"""The delaying line as a process of its own, for as long as a context lasts: ports that stand for ports far away.

A process of its own, so that what it costs is nobody's time but its own.
"""

import json
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Self

from bench.delaying import Carried

_PROGRAM = Path(__file__).with_name("delaying.py")
_DEADLINE = 10.0
"""Seconds for it to end."""


class Distance(AbstractContextManager["Distance"]):
    """A line to ports of this machine, `rtt` milliseconds and (None: no limit) `rate` megabits a second away."""

    def __init__(self, targets: Sequence[int], *, rtt: float = 0.0, rate: float | None = None) -> None:
        limit = [] if rate is None else ["--rate", str(rate)]
        self._command = [sys.executable, str(_PROGRAM), *map(str, targets), "--rtt", str(rtt), *limit]
        self._targets = tuple(targets)
        self._process: subprocess.Popen[str] | None = None
        self._ports: dict[int, int] = {}

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._ports = dict(zip(self._targets, map(int, self._line().split()), strict=True))
        return self

    def __exit__(self, *exc_info: object) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            process.communicate(timeout=_DEADLINE)

    def port(self, target: int) -> int:
        """Return the port that forwards to `target`."""
        return self._ports[target]

    @property
    def pid(self) -> int:
        """The line's process id."""
        return self._running().pid

    def carried(self) -> dict[int, Carried]:
        """Return what was carried until now, by target."""
        self._running().send_signal(signal.SIGUSR1)
        return {each["target"]: Carried(**each) for each in json.loads(self._line())}

    def _running(self) -> subprocess.Popen[str]:
        if self._process is None:
            raise RuntimeError("the line stands only within its context")
        return self._process

    def _line(self) -> str:
        out = self._running().stdout
        line = out.readline() if out is not None else ""
        if not line:
            raise RuntimeError("the delaying line ended before it answered")
        return line
