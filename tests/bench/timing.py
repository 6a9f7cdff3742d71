"""How long commands take: wall clock, and the processor time of each with its children on this side of the line.

A command that fails raises; it is never taken for a quick one. Nothing outlives its deadline.
"""

import os
import select
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import IO

from bench.table import Series
from support.processes import descendants

_TAIL = 2000
"""Characters of a failed command's last words."""
_TICK = os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGE_SIZE")


class Unmeasurable(Exception):
    """Something did not do what was to be measured; the sentence says what."""


@dataclass(frozen=True, slots=True)
class Took:
    """What commands took, from the start of the first to the end of the last."""

    seconds: float
    cpu: float
    """Seconds, user and system, all together."""
    cut_off: bool = False
    """Whether the deadline ended them."""


@dataclass(slots=True)
class Measures:
    """Collects what the same work took, time after time."""

    who: str
    took: list[Took] = field(default_factory=list)

    def add(self, took: Took) -> None:
        """Add one more."""
        self.took.append(took)

    @property
    def series(self) -> Series:
        """All of them."""
        return Series(
            self.who,
            tuple(each.seconds for each in self.took),
            cpu=tuple(each.cpu for each in self.took),
            cut_off=any(each.cut_off for each in self.took),
        )


def timed(
    *commands: Sequence[str | Path],
    deadline: float,
    env: Mapping[str, str] | None = None,
    expected: frozenset[int] = frozenset({0}),
) -> Took:
    """Run commands side by side to their end; raises `Unmeasurable` where one's exit code is not expected.

    After `deadline` seconds they are ended, and what they took is marked as cut off.
    """
    with tempfile.TemporaryFile() as output:
        started = time.monotonic()
        running = [_start(command, env, output) for command in commands]
        try:
            cut_off = not _wait_all(running, started + deadline)
            seconds = time.monotonic() - started
        finally:
            cpu = sum(_reap(process) for process in running)
        codes = {process.returncode for process in running}
        if not cut_off and not codes <= expected:
            output.seek(0)
            words = output.read().decode(errors="replace")[-_TAIL:]
            raise Unmeasurable(f"`{' '.join(map(str, commands[0]))}` ended with {sorted(codes - expected)}:\n{words}")
    return Took(seconds, cpu, cut_off)


def _start(command: Sequence[str | Path], env: Mapping[str, str] | None, output: IO[bytes]) -> subprocess.Popen[bytes]:
    # A session of its own: what is cut off ends with its ssh.
    return subprocess.Popen(
        [*map(str, command)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=output,
        env=env,
        start_new_session=True,
    )


def _wait_all(running: Sequence[subprocess.Popen[bytes]], give_up: float) -> bool:
    """Wait until all have ended; False where some had not at `give_up`. None of them is reaped."""
    handles = [os.pidfd_open(process.pid) for process in running]
    waiting = set(handles)
    try:
        while waiting and (left := give_up - time.monotonic()) > 0:
            ended, _, _ = select.select(list(waiting), [], [], left)
            waiting.difference_update(ended)
        return not waiting
    finally:
        for handle in handles:
            os.close(handle)


def _reap(process: subprocess.Popen[bytes]) -> float:
    """End a command that still runs, with all that it started; gives its processor time."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return usage.ru_utime + usage.ru_stime


def processor_time(pid: int) -> float:
    """Return the seconds of processor time that a running process has had, without its children."""
    return sum(_ticks(pid)[:2]) / _TICK


def family_time(pid: int) -> float:
    """Return the seconds of processor time that a running process and all below it have had, ended ones too."""
    spent = sum(_ticks(pid))
    for each in descendants(pid):
        with suppress(FileNotFoundError, ProcessLookupError):
            spent += sum(_ticks(each))
    return spent / _TICK


def _ticks(pid: int) -> list[int]:
    """Return a process's own time, user and system, and that of its children that were waited for."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return [int(field) for field in fields[11:15]]


def resident(pid: int) -> float:
    """Return the resident memory of a running process in MB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * _PAGE / 1e6


def proportional(pid: int) -> float:
    """Return the memory of a running process in MB, with what it shares with others divided among them."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) * 1024 / 1e6


def wait_until_quiet(pid: int, deadline: float, *, quiet: float = 1.0) -> None:
    """Wait until a process hardly used the processor for `quiet` seconds; raises `Unmeasurable` after `deadline`."""
    wait_until_still(partial(processor_time, pid), deadline, quiet=quiet)


def wait_until_still(spent: Callable[[], float], deadline: float, *, quiet: float) -> None:
    """Wait until a processor time hardly grew in `quiet` seconds; raise `Unmeasurable` after `deadline`."""
    give_up = time.monotonic() + deadline
    before = spent()
    while True:
        time.sleep(quiet)
        now = spent()
        if now - before <= 0.03 * quiet:
            return
        if time.monotonic() > give_up:
            raise Unmeasurable(f"what is measured is busy still after {deadline:.0f} s")
        before = now
